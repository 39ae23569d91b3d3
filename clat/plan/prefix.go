package plan

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"time"
)

// formingPrefix chooses the prefix of the uplink, a /64 or longer, in which the
// CLAT address is formed. If there is none, Why says what is missing. Candidates
// are compared in this order:
//
//   - The prefix of the address that served last, even a deprecated one, until
//     it is about to expire.
//   - Prefixes that are not deprecated.
//   - Who advertises them. A source prefix and a PREF64 from the same router
//     belong together (RFC 8028). Advertisements of routers that are not default
//     routers do not count.
//   - Prefixes in which the CLAT has an address already.
//   - As RFC 6724 section 5 selects a source address towards the PREF64: same
//     label (rule 6: global with global, ULA with ULA), then longest match
//     (rule 8).
//   - The longest lifetime.
//
// A network whose routers advertise no prefix for addresses assigns them by
// DHCPv6 only, unless an administrator numbered the link. It would drop packets
// from any other address. No address can be formed in one of the prefixes taken.
func formingPrefix(o Observed, l Link, pref64 PREF64, taken []netip.Prefix) (netip.Prefix, Why) {
	type candidate struct {
		prefix     netip.Prefix
		word       word
		serves     bool // an address in it served last
		deprecated bool // but nothing better is known
		inUse      bool
		label      bool // same label as PREF64
		match      int  // common bits with PREF64
		valid      time.Duration
	}
	var (
		best  []candidate
		other bool // an address from which no prefix can be taken
	)
	bestWord, served := byNeighbour, o.Memory.served(l)
	dhcpOnly := dhcpOnly(o, l.Index, pref64.Routers)
	if dhcpOnly && !numberedByHand(o, l.Index) {
		return netip.Prefix{}, because(DHCPv6Only, "the network on %s assigns addresses by DHCPv6 only, and a CLAT cannot form one: set clat.ipv6", l.Name)
	}
	for _, a := range o.Addrs {
		ip := a.Prefix.Addr()
		if a.Link != l.Index || !ip.Is6() || ip.IsLinkLocalUnicast() || ip.IsLoopback() || owns(o, ip) {
			continue
		}
		p, ok := a.Formable()
		w, preferred := wordFor(o, l.Index, p, pref64.Routers)
		// The kernel lets any station deprecate an address.
		deprecated := a.Deprecated && (w > byDefaultRouter || !preferred)
		// A prefix that is no longer advertised and was never deprecated is
		// abandoned at once (RFC 8978).
		serves := ok && slices.ContainsFunc(served, p.Contains) && a.Valid > moveBefore &&
			(w == byNobody || w <= byDefaultRouter && (preferred || a.Deprecated))
		if !ok || within(taken, ip) || dhcpOnly && !a.byHand() {
			other = other || !a.Temporary
			continue
		}
		bestWord = min(bestWord, w)
		best = append(best, candidate{
			prefix:     p,
			word:       w,
			serves:     serves,
			deprecated: deprecated || w <= byDefaultRouter && !preferred,
			inUse:      slices.ContainsFunc(o.Memory.Own, p.Contains),
			label:      label(ip) == label(pref64.Prefix.Addr()),
			match:      min(commonBits(ip, pref64.Prefix.Addr()), 64),
			valid:      a.Valid,
		})
	}
	if len(best) == 0 {
		if other {
			return netip.Prefix{}, because(NoFormablePrefix, "%s has no on-link prefix of up to /120 to form a CLAT address in (only DHCPv6, deprecated or other addresses): set clat.ipv6", l.Name)
		}
		return netip.Prefix{}, because(NoIPv6Address, "waiting for an IPv6 address on %s", l.Name)
	}
	slices.SortStableFunc(best, func(a, b candidate) int {
		return cmp.Or(
			yesFirst(a.serves && a.word == bestWord, b.serves && b.word == bestWord),
			yesFirst(!a.deprecated, !b.deprecated),
			cmp.Compare(a.word, b.word),
			yesFirst(a.inUse, b.inUse),
			yesFirst(a.label, b.label),
			cmp.Compare(b.match, a.match),
			cmp.Compare(b.valid, a.valid),
			a.prefix.Addr().Compare(b.prefix.Addr()),
		)
	})
	return best[0].prefix, Why{}
}

// moveBefore is how long before a deprecated address of the host expires the
// CLAT moves to another prefix: enough time for duplicate address detection of
// the next address while the old one serves.
const moveBefore = 30 * time.Second

// moveIn returns the time until the CLAT has to leave the prefix of its address a,
// because the host's own address in that prefix is deprecated and expires. It
// returns 0 if the CLAT can stay.
func moveIn(o Observed, link int, a netip.Addr) time.Duration {
	var last time.Duration
	for _, e := range o.Addrs {
		if e.Link != link || !e.Prefix.Addr().Is6() || !e.sharesPrefix(a) || owns(o, e.Prefix.Addr()) {
			continue
		}
		if !e.Deprecated || e.Valid == Forever {
			return 0
		}
		last = max(last, e.Valid)
	}
	return max(last-moveBefore, 0)
}

// routerFor returns the next hop for packets from a to the PREF64: the first
// router that advertises both the PREF64 and the /64 of a (RFC 8028), or else the
// first that advertises the PREF64. If it is invalid, the host's routes decide.
func routerFor(o Observed, link int, a netip.Addr, pref64 PREF64) netip.Addr {
	for _, r := range pref64.Routers {
		if w, _ := wordFor(o, link, prefixOf(a), []netip.Addr{r}); w == byPREF64Router {
			return r
		}
	}
	if len(pref64.Routers) > 0 {
		return pref64.Routers[0]
	}
	return netip.Addr{}
}

// word ranks who advertises a prefix for addresses; lower values take precedence.
type word uint8

const (
	byPREF64Router  word = iota // a router that advertises the PREF64
	byDefaultRouter             // another default router
	byNobody                    // not advertised, or on a link where no router is heard
	byNeighbour                 // only by a router that is not a default router
)

// wordFor returns the best rank of those who advertise the prefix p on a link, and
// whether one of that rank advertises it with a preferred lifetime above 0.
func wordFor(o Observed, link int, p netip.Prefix, routers []netip.Addr) (best word, preferred bool) {
	best = byNobody
	for _, a := range o.Advertised {
		if a.Link != link {
			continue
		}
		for _, s := range a.SLAAC {
			w := byNeighbour
			switch {
			case s.Prefix.Masked() != p:
				continue
			case slices.Contains(routers, s.Router):
				w = byPREF64Router
			case s.Default:
				w = byDefaultRouter
			}
			switch {
			case w < best || best == byNobody:
				best, preferred = w, s.Preferred
			case w == best:
				preferred = preferred || s.Preferred
			}
		}
	}
	return best, preferred
}

// dhcpOnly reports whether a default router has been heard on a link, and neither
// a default router nor one of routers advertises a prefix for addresses.
func dhcpOnly(o Observed, link int, routers []netip.Addr) bool {
	heard := false
	for _, a := range o.Advertised {
		if a.Link != link {
			continue
		}
		heard = heard || a.Default
		if slices.ContainsFunc(a.SLAAC, func(s SLAAC) bool { return s.Default || slices.Contains(routers, s.Router) }) {
			return false
		}
	}
	return heard
}

// Serves reports whether a, an address of ours, still belongs to the network of the
// link: the link has another address in the same network, deprecated or not, and
// the prefix is advertised if routers have been heard.
func Serves(o Observed, link int, a netip.Addr) bool {
	heard := slices.ContainsFunc(o.Advertised, func(a Advertised) bool { return a.Link == link && a.Default })
	w, _ := wordFor(o, link, prefixOf(a), nil)
	return HasPrefixOf(o, link, a) && (!heard || w != byNobody || givenByHand(o, link, a))
}

// protocolRA is the IFA_PROTO of addresses that the kernel formed from a router
// advertisement (IFAPROT_KERNEL_RA, Linux 5.18).
const protocolRA = 2

// HasPrefixOf reports whether the link has another address in the network of a.
func HasPrefixOf(o Observed, link int, a netip.Addr) bool {
	return slices.ContainsFunc(o.Addrs, func(e Addr) bool {
		return e.Link == link && e.Prefix.Addr().Is6() && e.sharesPrefix(a) && !e.DADFailed && !owns(o, e.Prefix.Addr())
	})
}

func prefixOf(a netip.Addr) netip.Prefix {
	p, _ := a.Prefix(64)
	return p
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
