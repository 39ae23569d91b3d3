package steernft

import (
	"cmp"
	"net/netip"
	"slices"
)

// NextHop is where IPv6 packets for a prefix go.
type NextHop struct {
	Prefix netip.Prefix
	// Link is the interface by which they go; 0 is the uplink.
	Link int
	// Via is the address of a router. The zero Addr means that the destinations
	// are neighbours on the link themselves.
	Via netip.Addr
	// Reject drops the packets instead, as an unreachable route does.
	Reject bool
}

// span is a range of addresses that have the same next hop.
type span struct {
	first, last netip.Addr
	hop         NextHop
}

// spans flattens the longest-prefix match over hops into ranges that do not
// overlap, in ascending order. Of several hops for one prefix the last counts.
func spans(hops []NextHop) []span {
	hops = slices.Clone(hops)
	// Shorter prefixes first: a longer one is cut out of what is there.
	slices.SortStableFunc(hops, func(a, b NextHop) int { return cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()) })
	var out []span
	for _, h := range hops {
		h.Prefix = h.Prefix.Masked()
		first, last := h.Prefix.Addr(), lastAddr(h.Prefix)
		var next []span
		for _, s := range out {
			if s.last.Less(first) || last.Less(s.first) {
				next = append(next, s)
				continue
			}
			if s.first.Less(first) {
				next = append(next, span{s.first, first.Prev(), s.hop})
			}
			if last.Less(s.last) {
				next = append(next, span{last.Next(), s.last, s.hop})
			}
		}
		out = append(next, span{first, last, h})
	}
	slices.SortFunc(out, func(a, b span) int { return a.first.Compare(b.first) })
	return out
}

// prefixSpans returns the ranges that a list of prefixes covers.
func prefixSpans(ps []netip.Prefix) []span {
	hops := make([]NextHop, len(ps))
	for i, p := range ps {
		hops[i].Prefix = p
	}
	return spans(hops)
}

func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Addr().As16()
	for bit := p.Bits(); bit < 128; bit++ {
		a[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom16(a)
}
