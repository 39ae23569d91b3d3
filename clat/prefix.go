package clat

import (
	"cmp"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"time"
)

// slaacPrefix chooses the /64 of the uplink in which the CLAT address is
// formed: one that is advertised on this network, if routers have been heard;
// of those the way RFC 6724 would choose a source address towards PREF64: same
// label (rule 6: global with global, ULA with ULA), then longest match (rule
// 8); of equals the one in use, then the one that lives longest
// (standards.md C-14). Without one the string says why.
//
// A network that advertises none gives addresses by DHCPv6 only, and would
// drop what comes from an invented one (peers.md 4.2).
func (o Observed) slaacPrefix(l Link, pref64 netip.Prefix) (netip.Prefix, string) {
	type candidate struct {
		prefix netip.Prefix
		label  bool // same label as PREF64
		match  int  // common bits with PREF64
		inUse  bool
		valid  time.Duration
		now    bool // advertised on this network
	}
	var (
		best  []candidate
		other bool // an address from which no prefix can be taken
	)
	advertised, heard := o.advertised(l.Index)
	if heard && len(advertised) == 0 {
		return netip.Prefix{}, fmt.Sprintf("the network on %s gives addresses by DHCPv6 only, none that a CLAT could form for itself: clat.ipv6 can name one", l.Name)
	}
	for _, a := range o.Addrs {
		ip := a.Prefix.Addr()
		if a.Link != l.Index || !ip.Is6() || ip.IsLinkLocalUnicast() || ip.IsLoopback() || o.owns(ip) {
			continue
		}
		if a.Prefix.Bits() != 64 || a.Temporary || a.Deprecated || a.DADFailed {
			other = other || !a.Temporary
			continue
		}
		p := a.Prefix.Masked()
		best = append(best, candidate{
			prefix: p,
			label:  label(ip) == label(pref64.Addr()),
			match:  min(commonBits(ip, pref64.Addr()), 64),
			inUse:  slices.ContainsFunc(o.Memory.Own, p.Contains),
			valid:  a.Valid,
			now:    slices.Contains(advertised, p),
		})
	}
	if len(best) == 0 {
		if other {
			return netip.Prefix{}, l.Name + " has no /64 to form a CLAT address in (only DHCPv6, deprecated or other addresses): clat.ipv6 can name one"
		}
		return netip.Prefix{}, "waiting for an IPv6 address on " + l.Name
	}
	slices.SortStableFunc(best, func(a, b candidate) int {
		return cmp.Or(
			yesFirst(a.now, b.now),
			yesFirst(a.label, b.label),
			cmp.Compare(b.match, a.match),
			yesFirst(a.inUse, b.inUse),
			cmp.Compare(b.valid, a.valid),
			a.prefix.Addr().Compare(b.prefix.Addr()),
		)
	})
	return best[0].prefix, ""
}

// serves reports whether packets from a, an address of ours on the link, still
// belong to the link's network: it has another address in the same /64, and if
// routers have been heard they advertise it. A deprecated one will do.
func (o Observed) serves(link int, a netip.Addr) bool {
	advertised, heard := o.advertised(link)
	return o.hasPrefixOf(link, a) && (!heard || slices.Contains(advertised, prefixOf(a)))
}

// hasPrefixOf reports whether the link has another address in the /64 of a.
func (o Observed) hasPrefixOf(link int, a netip.Addr) bool {
	p := prefixOf(a)
	return slices.ContainsFunc(o.Addrs, func(e Addr) bool {
		return e.Link == link && p.Contains(e.Prefix.Addr()) && !e.DADFailed && !o.owns(e.Prefix.Addr())
	})
}

func prefixOf(a netip.Addr) netip.Prefix {
	p, _ := a.Prefix(64)
	return p
}

// advertised returns the /64s in which hosts on the link may form addresses.
func (o Observed) advertised(link int) (ps []netip.Prefix, heard bool) {
	for _, a := range o.Advertised {
		if a.Link == link {
			for _, p := range a.SLAAC {
				ps = append(ps, p.Masked())
			}
			heard = true
		}
	}
	return ps, heard
}

func yesFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// labels is the default policy table of RFC 6724 section 2.1, longest first.
var labels = []struct {
	prefix netip.Prefix
	label  int
}{
	{netip.MustParsePrefix("::1/128"), 0},
	{netip.MustParsePrefix("::ffff:0:0/96"), 4},
	{netip.MustParsePrefix("::/96"), 3},
	{netip.MustParsePrefix("2001::/32"), 5},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("3ffe::/16"), 12},
	{netip.MustParsePrefix("fec0::/10"), 11},
	{netip.MustParsePrefix("fc00::/7"), 13},
	{netip.MustParsePrefix("::/0"), 1},
}

func label(a netip.Addr) int {
	for _, l := range labels {
		if l.prefix.Contains(a) {
			return l.label
		}
	}
	return -1
}

func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	n := 0
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return n + bits.LeadingZeros8(d)
		}
		n += 8
	}
	return n
}
