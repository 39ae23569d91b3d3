package clat

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// overlays are the rtnetlink kinds of links that carry packets inside other
// packets. A VPN or tunnel is never an uplink of its own accord: PREF64
// belongs to the network below it. PPP is not among them (PPPoE, modems), and
// neither is veth, which is how containers are connected.
var overlays = map[string]bool{
	"amt": true, "bareudp": true, "erspan": true, "geneve": true, "gre": true, "gretap": true, "gtp": true,
	"ip6erspan": true, "ip6gre": true, "ip6gretap": true, "ip6tnl": true, "ipip": true, "ovpn": true,
	"sit": true, "tun": true, "tuntap": true, "vti": true, "vti6": true, "vxlan": true, "wireguard": true, "xfrm": true,
	// Not tunnels, but no way to a network either.
	"dummy": true, "ifb": true, "nlmon": true, "vcan": true,
}

// uplink chooses the link towards the IPv6-only network: the first configured
// one that can be used, or the one with the best IPv6 default route. Without
// one the string says what is missing.
func (o Observed) uplink(c Config) (Link, string) {
	if len(c.Uplinks) > 0 {
		return o.configuredUplink(c)
	}
	for _, r := range o.ipv6Defaults() {
		if l, ok := o.linkByIndex(r.Link); ok && l.mayBeUplink() {
			return l, ""
		}
	}
	return Link{}, "waiting for an IPv6 default route"
}

func (o Observed) configuredUplink(c Config) (Link, string) {
	var waiting []string
	for _, name := range c.Uplinks {
		l, ok := o.linkByName(name)
		switch {
		case !ok:
			waiting = append(waiting, fmt.Sprintf("%s does not exist", name))
		case l.Loopback || strings.HasPrefix(l.Alias, aliasPrefix):
			waiting = append(waiting, fmt.Sprintf("%s cannot be an uplink", name))
		case !l.Up:
			waiting = append(waiting, fmt.Sprintf("%s is down", name))
		case !o.hasIPv6Default(l.Index) && !c.waitsForNothing():
			waiting = append(waiting, fmt.Sprintf("%s has no IPv6 default route", name))
		default:
			return l, ""
		}
	}
	return Link{}, "waiting for an uplink: " + strings.Join(waiting, ", ")
}

// waitsForNothing is the promise of design.md section 5: always, an uplink and
// a fixed address need no look at the network.
func (c Config) waitsForNothing() bool {
	return c.Enable == Always && len(c.Uplinks) > 0 && c.IPv6.IsValid()
}

func (l Link) mayBeUplink() bool {
	return l.Up && !l.Loopback && !l.BridgePort && !overlays[l.Kind] && !strings.HasPrefix(l.Alias, aliasPrefix)
}

// ipv6Defaults returns the IPv6 default routes of the main table, best first.
func (o Observed) ipv6Defaults() []Route {
	var rs []Route
	for _, r := range o.Routes {
		if r.IPv6 && r.Table == TableMain {
			rs = append(rs, r)
		}
	}
	slices.SortStableFunc(rs, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Link, b.Link))
	})
	return rs
}

func (o Observed) hasIPv6Default(link int) bool {
	// Our own (see Forwarding) says nothing about the network.
	return slices.ContainsFunc(o.Routes, func(r Route) bool { return r.IPv6 && r.Link == link && r.Protocol != Protocol })
}

// uplinkMTU returns the IPv6 MTU of an uplink: the smallest of the device's,
// the kernel's IPv6 MTU (RA option) and the IPv6 default route's.
func (o Observed) uplinkMTU(l Link) MTU6 {
	m := MTU6(l.MTU)
	if l.MTU6 > 0 {
		m = min(m, l.MTU6)
	}
	for _, r := range o.Routes {
		if r.IPv6 && r.Link == l.Index && r.MTU > 0 {
			m = min(m, MTU6(r.MTU))
		}
	}
	return m
}
