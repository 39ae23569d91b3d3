package plan

import (
	"cmp"
	"net/netip"
	"slices"
)

// routedPrefix chooses a prefix that is routed to this host through the uplink l, and
// in which the CLAT can form an address although the prefix is that of another
// interface: one that DHCPv6 delegated (RFC 8415 section 6.3), or that the provider
// routes to the host. There is none unless the host shows that the prefix belongs to
// this uplink. A bridge for containers, say, may have any prefix.
func routedPrefix(o Observed, l Link, pref64 PREF64) (netip.Prefix, bool) {
	var best []Addr
	for _, a := range o.Addrs {
		if usableElsewhere(o, l, a, pref64.Prefix) && belongsTo(o, l, a) {
			if _, ok := a.Formable(); ok {
				best = append(best, a)
			}
		}
	}
	if len(best) == 0 {
		return netip.Prefix{}, false
	}
	served := o.Memory.served(l)
	first := slices.MinFunc(best, func(a, b Addr) int {
		serves := func(a Addr) bool { return slices.ContainsFunc(served, a.sharesPrefix) }
		return cmp.Or(
			yesFirst(serves(a), serves(b)),
			cmp.Compare(b.Valid, a.Valid),
			a.Prefix.Addr().Compare(b.Prefix.Addr()),
		)
	})
	return first.Formable()
}

// usableElsewhere reports whether a is a global address of the host on an interface
// that leads neither to a network of its own nor into a tunnel, and may be a source
// towards PREF64. It may be in duplicate address detection: its prefix is the host's
// already.
func usableElsewhere(o Observed, l Link, a Addr, pref64 netip.Prefix) bool {
	ip := a.Prefix.Addr()
	m, ok := o.LinkByIndex(a.Link)
	return ok && m.Index != l.Index && m.Up && !m.IsTunnel() && !o.IsOurs(m) && !o.HasIPv6Default(m.Index) &&
		ip.Is6() && ip.IsGlobalUnicast() && !owns(o, ip) && label(ip) == label(pref64.Addr()) &&
		!a.Temporary && !a.Deprecated && !a.DADFailed && a.Valid > 0
}

// belongsTo reports whether the prefix of a, an address on another interface, is
// routed to the host through the uplink l. It is if
//
//   - an address of the uplink is in it, or
//   - no other link has an IPv6 default route, and either a has a lifetime that is
//     not from a router advertisement, as delegated prefixes have, or the uplink has
//     no global address and was configured by hand, so that the host speaks IPv6
//     from addresses like a.
func belongsTo(o Observed, l Link, a Addr) bool {
	numbered := false // the uplink
	for _, e := range o.Addrs {
		if e.Link != l.Index || !e.Prefix.Addr().Is6() || !e.Prefix.Addr().IsGlobalUnicast() || owns(o, e.Prefix.Addr()) {
			continue
		}
		numbered = true
		if p, ok := a.Formable(); ok && p.Contains(e.Prefix.Addr()) {
			return true
		}
	}
	if slices.ContainsFunc(o.Routes, func(r Route) bool {
		return r.IPv6 && r.Table == TableMain && r.Link != l.Index && r.Protocol != Protocol
	}) {
		return false
	}
	if a.Valid != Forever {
		return knowsProtocols(o) && a.Protocol != protocolRA && !advertised(o, a)
	}
	return !numbered && !slices.ContainsFunc(o.Routes, func(r Route) bool { return r.IPv6 && r.Link == l.Index && r.Protocol == routeOfRA })
}

// routeOfRA is the protocol of routes that come from router advertisements
// (RTPROT_RA).
const routeOfRA = 9

// knowsProtocols reports whether the kernel tells who formed an address. Then its own
// link-local and loopback addresses have a protocol.
func knowsProtocols(o Observed) bool {
	return slices.ContainsFunc(o.Addrs, func(a Addr) bool { return a.Protocol != 0 && a.Protocol != Protocol })
}

// advertised reports whether a router advertises the prefix of a on its link.
func advertised(o Observed, a Addr) bool {
	p, _ := a.Formable()
	w, _ := wordFor(o, a.Link, p, nil)
	return w != byNobody
}
