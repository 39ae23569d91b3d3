package config

import (
	"fmt"
	"slices"
)

// together checks what only shows in several keys at once. Each message names
// them all, and its place is one that the file has.
func (r *reading) together() {
	clat, discovery, translation := r.config.CLAT, r.config.Discovery, r.config.Translation

	if n := r.given["clat.ipv6"]; n != nil {
		for _, p := range clat.PREF64 {
			if p.Contains(clat.IPv6) {
				// RFC 6146 section 3.5: a NAT64 takes it for a packet that loops.
				r.refuse("clat.ipv6", n, fmt.Sprintf("%q lies in %q of clat.pref64, and the PLAT drops packets from its own prefix", clat.IPv6, p),
					"an address outside every prefix of clat.pref64")
			}
		}
	}
	if n := r.given["clat.pref64"]; n != nil {
		for i, p := range clat.PREF64 {
			// RFC 6052 section 2.2. Nothing breaks: a /96 has the IPv4 address
			// behind those bits.
			if p.Bits() == 96 && p.Addr().As16()[8] != 0 {
				r.warn("clat.pref64", n.items[i], fmt.Sprintf("%q has bits 64 to 71 set, which must be zero (RFC 6052)", p))
			}
		}
	}
	if n := r.given["translation.icmp-source"]; n != nil && translation.ICMPSource == clat.IPv4 {
		what := fmt.Sprintf("%q is also clat.ipv4", translation.ICMPSource)
		if !clat.IPv4Fixed {
			what = fmt.Sprintf("%q is the default of clat.ipv4", translation.ICMPSource)
		}
		r.refuse("translation.icmp-source", n, what, "an address other than clat.ipv4")
	}
	if n := r.given["clat.uplinks"]; n != nil {
		if i := slices.Index(clat.Uplinks, clat.TUN); i >= 0 {
			r.refuse("clat.uplinks", n.items[i], fmt.Sprintf("%q is clat.tun, the CLAT's own interface", clat.TUN), "interfaces other than clat.tun")
		}
	}
	if n := r.given["discovery.sources"]; n != nil {
		switch {
		case len(discovery.Sources) == 0 && len(clat.PREF64) == 0 && clat.Enable != Never:
			r.refuse("discovery.sources", n, `"[]" without clat.pref64 leaves no way to find a prefix`, "at least one of ra, dns, or a prefix in clat.pref64")
		case len(discovery.DNSServers) > 0 && !slices.Contains(discovery.Sources, DNS):
			r.warn("discovery.dns-servers", r.given["discovery.dns-servers"], `not used because discovery.sources does not contain "dns"`)
		}
	}
	r.overlaps()
	r.checkRoutes()
}
