package config

import (
	"fmt"
	"net/netip"
)

// maxRoutes bounds [[clat.route]].
const maxRoutes = 256

// routeKeys are the keys of one [[clat.route]].
func routeKeys(r *Route) []key {
	return []key{text("network", &r.Network, ipv4Network), text("pref64", &r.PREF64, prefixOrNone)}
}

// checkRoutes refuses networks that occur twice, and prefixes that overlap: an IPv6
// source would be behind both.
func (r *reading) checkRoutes() {
	networks, prefixes := map[netip.Prefix]bool{}, map[netip.Prefix]bool{}
	for i, route := range r.config.CLAT.Routes {
		if i == maxRoutes {
			r.refuse("clat.route", r.routes[i], fmt.Sprintf("more than %d routes", maxRoutes), "")
			return
		}
		if n := r.routes[i].get("network"); networks[route.Network] {
			r.refuse("clat.route.network", n, fmt.Sprintf("%s occurs twice", quote(n.text)), "each network once")
		}
		networks[route.Network] = true
		if !route.PREF64.IsValid() || prefixes[route.PREF64] {
			continue
		}
		n := r.routes[i].get("pref64")
		if a := r.config.CLAT.IPv6; a.IsValid() && route.PREF64.Contains(a) {
			// RFC 6146 section 3.5: a NAT64 takes it for a packet that loops.
			r.refuse("clat.route.pref64", n, fmt.Sprintf("%s contains clat.ipv6, and the PLAT drops packets from its own prefix", quote(n.text)), "prefixes without clat.ipv6")
		}
		for other := range prefixes {
			if other.Overlaps(route.PREF64) {
				r.refuse("clat.route.pref64", n, fmt.Sprintf("%s overlaps %q of another network", quote(n.text), other), "prefixes that are equal or do not overlap")
				break
			}
		}
		prefixes[route.PREF64] = true
	}
}
