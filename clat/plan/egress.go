package plan

import (
	"net/netip"
	"slices"
)

// Egress says that a packet to a global IPv4 destination would leave by a link,
// over a unicast route: the kernel's answer to a route lookup bound to that link.
type Egress struct {
	Link int // interface index
	// Flow numbers the other keys of the lookup (source, mark, user, port), one
	// set for each routing table. It only tells answers apart.
	Flow     int
	To       netip.Addr // one of [ProbesFor]
	Source   netip.Addr // the kernel's choice
	Protocol int        // rtm_protocol of the route
}

// GlobalIPv4 has a destination in each of the three quarters of the IPv4 unicast
// space and in 192.0.0.0/3. A link by which all of them leave has a default
// route, in one piece or in parts (0.0.0.0/1 and 128.0.0.0/1). None is a
// well-known service, for which a host may have a separate route.
var GlobalIPv4 = []netip.Addr{
	netip.AddrFrom4([4]byte{44, 61, 157, 33}), netip.AddrFrom4([4]byte{99, 203, 118, 71}),
	netip.AddrFrom4([4]byte{151, 199, 83, 205}), netip.AddrFrom4([4]byte{217, 119, 206, 54}),
}

// NativeIPv4 reports whether a link has native IPv4: it has a carrier, and
// packets to global destinations leave by it, by some routing table that a rule
// selects, with a global or private source address that is meant for that link (see
// [HasNativeSource]). Link-local sources (RFC 3927 section 2.6.2) and our own routes
// do not count.
func (o Observed) NativeIPv4(link int) bool {
	l, ok := o.LinkByIndex(link)
	if !ok || !l.Carrier {
		return false
	}
	return o.reaches(link, GlobalIPv4)
}

// reaches reports whether packets of one flow to all of the destinations leave by
// the link with a source that counts for [Observed.NativeIPv4].
func (o Observed) reaches(link int, destinations []netip.Addr) bool {
	reached := map[int]int{} // destinations by flow
	for _, e := range o.Egress4 {
		if e.Link == link && e.Protocol != Protocol && slices.Contains(destinations, e.To) && isNativeSource(o, link, e.Source) {
			reached[e.Flow]++
			if reached[e.Flow] == len(destinations) {
				return true
			}
		}
	}
	return false
}

// native reports whether packets that take the route r reach global destinations:
// its link has native IPv4, as far as r leads.
func (o Observed) native(r Route) bool {
	l, _ := o.LinkByIndex(r.Link)
	return l.Carrier && !r.LinkDown && o.reaches(r.Link, ProbesIn(r.Part))
}

// isNativeSource reports whether the host may reach global destinations over a
// link from the address a: an address of that link or, if the link is unnumbered (as
// with BGP unnumbered, RFC 8950), of an interface that leads nowhere, or the one that
// a default route of the link names. Any other is the kernel's choice for want of a
// better one.
func isNativeSource(o Observed, link int, a netip.Addr) bool {
	named := slices.ContainsFunc(o.Routes, func(r Route) bool {
		return !r.IPv6 && r.Link == link && r.Source == a && r.Protocol != Protocol
	})
	return UsableIPv4(a) && slices.ContainsFunc(o.Addrs, func(e Addr) bool {
		l, _ := o.LinkByIndex(e.Link)
		return e.Prefix.Addr() == a && (e.Link == link || l.Loopback || l.Kind == "dummy" || named && !l.IsTunnel() && !o.IsOurs(l))
	})
}

// UsableIPv4 reports whether a is a unicast address that a network or its NAT
// forwards: neither link-local, loopback nor of 192.0.0.0/29.
func UsableIPv4(a netip.Addr) bool {
	return a.Is4() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast() &&
		!ServiceContinuityPrefix.Contains(a) && a.As4()[0] != 0 && a.As4()[0] < 240
}

// HasIPv4Default reports whether a link has an IPv4 default route that is not
// ours, or a part of one, even a useless one.
func (o Observed) HasIPv4Default(link int) bool {
	return slices.ContainsFunc(o.Routes, func(r Route) bool { return !r.IPv6 && r.Link == link && r.Protocol != Protocol })
}

// maxAsked bounds the links for which each observation looks up routes.
const maxAsked = 16

// LinksToAsk returns the first links, at most [maxAsked], for which routes are
// looked up.
func LinksToAsk(o Observed, which func(Link) bool) (ls []Link) {
	for _, l := range o.Links {
		if l.Up && !l.Loopback && !o.IsOurs(l) && which(l) {
			ls = append(ls, l)
		}
	}
	return ls[:min(len(ls), maxAsked)]
}

// HasNativeSource reports whether the host has an address from which it may reach
// global IPv4 destinations over a link.
func HasNativeSource(o Observed, link int) bool {
	return slices.ContainsFunc(o.Addrs, func(a Addr) bool { return isNativeSource(o, link, a.Prefix.Addr()) })
}
