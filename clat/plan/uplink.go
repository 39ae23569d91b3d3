package plan

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

// chooseUplinks chooses the links towards IPv6-only networks: the configured ones that
// can be used, or all with an IPv6 default route, best first. Without one the
// Why says what is missing.
func chooseUplinks(o Observed, c Config) ([]Link, Why) {
	if len(c.Uplinks) > 0 {
		return configuredUplinks(o, c)
	}
	var ls []Link
	for _, r := range ipv6Defaults(o) {
		if l, ok := o.LinkByIndex(r.Link); ok && l.MayBeUplink() && !o.IsOurs(l) && !slices.ContainsFunc(ls, l.same) {
			ls = append(ls, l)
		}
	}
	if len(ls) == 0 {
		return nil, because(NoDefaultRoute, "waiting for an IPv6 default route")
	}
	return ls, Why{}
}

func configuredUplinks(o Observed, c Config) ([]Link, Why) {
	var (
		ls      []Link
		waiting []string
	)
	for _, name := range c.Uplinks {
		l, ok := linkNamed(o, name)
		switch {
		case !ok:
			waiting = append(waiting, fmt.Sprintf("%s does not exist", name))
		case l.Loopback || o.IsOurs(l):
			waiting = append(waiting, fmt.Sprintf("%s cannot be an uplink", name))
		case !l.Up:
			waiting = append(waiting, fmt.Sprintf("%s is down", name))
		case !o.HasIPv6Default(l.Index) && !c.waitsForNothing():
			waiting = append(waiting, fmt.Sprintf("%s has no IPv6 default route", name))
		case !slices.ContainsFunc(ls, l.same):
			ls = append(ls, l)
		}
	}
	if len(ls) == 0 {
		return nil, because(NoConfiguredUplink, "waiting for an uplink: %s", strings.Join(waiting, ", "))
	}
	return ls, Why{}
}

func (l Link) same(m Link) bool { return l.Index == m.Index }

func isUplink(o Observed, c Config, l Link) bool {
	ls, _ := chooseUplinks(o, c)
	return slices.ContainsFunc(ls, l.same)
}

// abandonedLinks lists the links of CLATs that are no uplinks at the moment but
// might be again.
func abandonedLinks(o Observed, c Config, chosen []Link) []Link {
	var ls []Link
	for _, r := range o.Memory.CLATs {
		l, ok := o.LinkByIndex(r.Uplink.Index)
		switch {
		case !ok || l.Name != r.Uplink.Name || o.IsOurs(l) || slices.ContainsFunc(chosen, l.same):
		case len(c.Uplinks) > 0 && !l.named(c.Uplinks):
		case len(c.Uplinks) == 0 && (l.BridgePort || overlays[l.Kind]):
		default:
			ls = append(ls, l)
		}
	}
	return ls
}

// lost returns why a link that was an uplink is none.
func (l Link) lost() Why {
	switch {
	case !l.Up:
		return because(LinkDown, "%s is down", l.Name)
	case !l.Carrier:
		return because(NoCarrier, "%s has no carrier", l.Name)
	}
	return because(DefaultRouteLost, "%s has no IPv6 default route any more", l.Name)
}

// waitsForNothing reports whether the configuration leaves nothing to discover:
// always, one uplink and a fixed address need no look at the network.
func (c Config) waitsForNothing() bool {
	return c.Enable == Always && len(c.Uplinks) == 1 && c.IPv6.IsValid()
}

func (l Link) MayBeUplink() bool { return l.Up && l.LeadsToNetwork() }

// LeadsToNetwork reports whether a link, when it is up, leads to a network that
// may have a NAT64.
func (l Link) LeadsToNetwork() bool { return !l.Loopback && !l.BridgePort && !overlays[l.Kind] }

// ipv6Defaults returns the IPv6 default routes of the main table, best first.
func ipv6Defaults(o Observed) []Route {
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

func (o Observed) HasIPv6Default(link int) bool {
	return slices.ContainsFunc(o.Routes, func(r Route) bool { return r.IPv6 && r.Table == TableMain && r.Link == link })
}

// UplinkMTU returns the IPv6 MTU of an uplink: the smallest of the device's,
// the kernel's IPv6 MTU (RA option) and the IPv6 default route's.
func (o Observed) UplinkMTU(l Link) MTU6 {
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

// HasGlobalIPv6 reports whether a link has an IPv6 address of more than its
// own scope.
func (o Observed) HasGlobalIPv6(link int) bool {
	for _, a := range o.Addrs {
		if ip := a.Prefix.Addr(); a.Link == link && ip.Is6() && !ip.IsLinkLocalUnicast() && !ip.IsLoopback() {
			return true
		}
	}
	return false
}
