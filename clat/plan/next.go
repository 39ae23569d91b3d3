package plan

import (
	"net/netip"
	"slices"

	"tnat64d/siit"
)

// next returns the address that flows have which begin now, while the prefix of
// main, the address of the CLAT that runs, is deprecated (RFC 4862 section 5.5.4);
// invalid: main. Both are checksum-neutral: package datapath puts one in the place
// of the other.
func (p *planner) next(l Link, v4, main netip.Addr, pref64 PREF64) netip.Addr {
	var none netip.Addr
	if p.o.Memory.CLAT(l.Index).OneAddress || p.c.IPv6.IsValid() || !onlyDeprecated(p.o, l.Index, main) {
		return none
	}
	// As if none had served.
	o := p.o
	o.Memory.Left = nil
	o.Memory.CLATs = slices.Clone(o.Memory.CLATs)
	for i := range o.Memory.CLATs {
		o.Memory.CLATs[i].IPv6 = none
	}
	prefix, why := formingPrefix(o, l, pref64, behindNetworks(p.c.Translation.Mapping.Networks))
	if why.is() || prefix.Contains(main) {
		return none
	}
	a, why := derivedIPv6(o, l, identity{secret: p.c.Secret, prefix: prefix, iface: l.Name, ipv4: v4, pref64: pref64.Prefix})
	rfc6052, err := siit.NewPrefix(pref64.Prefix)
	if why.is() || err != nil || !rfc6052.Neutral(siit.Pair{IPv4: v4, IPv6: main}) || !rfc6052.Neutral(siit.Pair{IPv4: v4, IPv6: a}) {
		return none
	}
	return a
}

// onlyDeprecated reports whether the host has addresses on a link in the prefix of
// a, an address of ours, and all of them are deprecated.
func onlyDeprecated(o Observed, link int, a netip.Addr) bool {
	found := false
	for _, e := range o.Addrs {
		if e.Link != link || !e.Prefix.Addr().Is6() || !e.sharesPrefix(a) || owns(o, e.Prefix.Addr()) {
			continue
		}
		if !e.Deprecated {
			return false
		}
		found = true
	}
	return found
}

// MainOf returns which of two addresses of a CLAT is the main one, and which the
// next: that whose prefix is deprecated is older. ok is false if that is so of both
// or of neither.
func MainOf(o Observed, link int, a, b netip.Addr) (main, next netip.Addr, ok bool) {
	x, y := onlyDeprecated(o, link, a), onlyDeprecated(o, link, b)
	if y {
		a, b = b, a
	}
	return a, b, x != y
}
