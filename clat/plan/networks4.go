package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"tnat64d/siit"
)

// MinNetwork is the shortest prefix length of an IPv4 network on a link. Shorter
// prefixes are parts of a default route.
const MinNetwork = 8

// whyTaken says why an IPv4 address is not free for a CLAT or for its ICMP errors:
// another CLAT of ours has it, or a network of the host contains it (RFC 7335
// section 3). It returns "" if the address is free. Networks on our own TUNs do
// not count.
func (p *planner) whyTaken(a netip.Addr) string {
	if why := p.given[a]; why != "" {
		return why
	}
	return whyTaken(p.o, a)
}

func whyTaken(o Observed, a netip.Addr) string {
	for _, e := range o.Addrs {
		l, _ := o.LinkByIndex(e.Link)
		switch {
		case !e.Prefix.Addr().Is4() || o.IsOurs(l):
		case e.Prefix.Addr() == a:
			return "is an address of " + l.Name
		case e.Prefix.Bits() >= MinNetwork && e.Prefix.Contains(a):
			return fmt.Sprintf("lies in %s, a network on %s", e.Prefix.Masked(), l.Name)
		}
	}
	for _, n := range o.OnLink4 {
		if l, ok := o.LinkByIndex(n.Link); ok && !o.IsOurs(l) && n.Prefix.Bits() >= MinNetwork && n.Prefix.Contains(a) {
			return fmt.Sprintf("lies in %s, a network on %s", n.Prefix, l.Name)
		}
	}
	return ""
}

// localNetworks4 returns the IPv4 networks of the host, and own unless it is in
// 192.0.0.0/29: no host behind a PLAT has an address in them. It leaves out
// loopback and link-local networks, because no packet comes from those.
func localNetworks4(o Observed, own netip.Addr) (networks []netip.Prefix) {
	add := func(link int, n netip.Prefix) {
		l, _ := o.LinkByIndex(link)
		a := n.Addr()
		if !a.Is4() || o.IsOurs(l) || n.Bits() < MinNetwork || a.IsLoopback() || a.IsLinkLocalUnicast() || ServiceContinuityPrefix.Contains(a) {
			return
		}
		networks = append(networks, n.Masked())
	}
	for _, e := range o.Addrs {
		add(e.Link, e.Prefix)
	}
	for _, n := range o.OnLink4 {
		// A VPN's public routes are a default route in many parts
		// (AllowedIPs without the home network), not a network.
		if l, _ := o.LinkByIndex(n.Link); !overlays[l.Kind] || IsPrivate4(n.Prefix) {
			add(n.Link, n.Prefix)
		}
	}
	if !ServiceContinuityPrefix.Contains(own) {
		networks = append(networks, netip.PrefixFrom(own, own.BitLen()))
	}
	slices.SortFunc(networks, netip.Prefix.Compare)
	return slices.Compact(networks)
}

// private4 is the address space that only a site or a provider routes: private (RFC 1918)
// and shared address space (RFC 6598).
var private4 = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"),
}

// IsPrivate4 reports whether all of p is private or shared IPv4 address space.
func IsPrivate4(p netip.Prefix) bool {
	return slices.ContainsFunc(private4, func(n netip.Prefix) bool { return p.Bits() >= n.Bits() && n.Contains(p.Addr()) })
}

// routedNetworks4 returns the private IPv4 networks that the host reaches by a router
// and not through a CLAT of ours. A packet from the PLAT with a source in one of them
// would fail a strict reverse path check (RFC 3704 section 2.2): the answer would leave
// by another link. Public networks do not count, because a VPN may have routes to most
// of them while its own endpoint is reached through the CLAT.
func routedNetworks4(o Observed) (networks []netip.Prefix) {
	ours := func(n OnLink) bool {
		l, ok := o.LinkByIndex(n.Link)
		return !ok || o.IsOurs(l)
	}
	for _, n := range o.Routed4 {
		if !slices.ContainsFunc(o.Routed4, func(m OnLink) bool { return m.Prefix == n.Prefix && ours(m) }) {
			networks = append(networks, n.Prefix.Masked())
		}
	}
	slices.SortFunc(networks, netip.Prefix.Compare)
	return slices.Compact(networks)
}

// icmpSource returns the source of the translator's own ICMPv4 errors: the
// configured one, or where that is not free another of 192.0.0.0/29. An error
// that seems to come from the host itself is dropped by the kernel.
func (p *planner) icmpSource(clat netip.Addr) (netip.Addr, []Warning) {
	want := p.c.Translation.ICMPSource4
	why := "is the CLAT's own IPv4 address"
	if want != clat {
		if why = p.whyTaken(want); why == "" {
			return want, nil
		}
	}
	for a := ServiceContinuityPrefix.Addr().Next(); ServiceContinuityPrefix.Contains(a); a = a.Next() {
		if a != clat && p.whyTaken(a) == "" {
			return a, []Warning{warn(ICMPSourceReplaced, want, "the source of the translator's ICMP errors is %s: %s %s", a, want, why)}
		}
	}
	return want, []Warning{warn(ICMPSourceTaken, want, "programs do not see the translator's ICMP errors: their source %s %s, and no other address of %s is free", want, why, ServiceContinuityPrefix)}
}

// sourceWarnings warns of sources of ICMP errors that are in use on the host. It
// does not warn where the CLAT has the default source.
func (p *planner) sourceWarnings(c *CLAT) (ws []Warning) {
	if want := p.c.Translation.ICMPSource4; want != c.IPv4 || want != defaultICMPSource4 {
		_, ws = p.icmpSource(c.IPv4)
	}
	for _, e := range p.o.Addrs {
		if e.Prefix.Addr() == siit.DummyIPv4 {
			ws = append(ws, warn(DummySourceTaken, p.o.LinkName(e.Link), "programs do not see errors from routers without an IPv4 address: their source %s is an address of %s",
				siit.DummyIPv4, p.o.LinkName(e.Link)))
		}
	}
	return ws
}
