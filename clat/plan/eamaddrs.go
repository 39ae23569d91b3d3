package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"tnat64d/siit"
)

// maxEAMAddrs bounds the addresses that explicit address mappings add to an uplink:
// each of them runs DAD and joins a multicast group.
const maxEAMAddrs = 16

// eamAddrs returns the IPv6 addresses of explicit address mappings (RFC 7757) that
// map to IPv4 addresses of the host and lie in an on-link prefix of the uplink.
// The host must have them to answer neighbour discovery. An address that maps to
// an IPv4 address of another host may be a neighbour's and is left alone. There is
// a warning for each address that the host cannot have.
func eamAddrs(o Observed, l Link, m siit.Mapping) (as []netip.Addr, warnings []Warning) {
	onLink := func(a netip.Addr) bool {
		return slices.ContainsFunc(o.Addrs, func(e Addr) bool {
			return e.Link == l.Index && e.Prefix.Addr().Is6() && e.Prefix.Bits() < 128 && e.Prefix.Contains(a) && !owns(o, e.Prefix.Addr())
		})
	}
	left := 0
	for _, e := range o.Addrs {
		v4 := e.Prefix.Addr()
		if !v4.Is4() || v4 == m.CLAT.IPv4 {
			continue
		}
		a, ok := eamIPv6(m.EAM, v4)
		switch {
		case !ok || !onLink(a) || a == m.CLAT.IPv6 || slices.Contains(as, a):
		case isRefused(o, l, a):
			warnings = append(warnings, warn(EAMAddrRefused, a, "%s of translation.eam, which represents %s, is in use by another host on %s", a, v4, l.Name))
		case isForeign(o, a):
			warnings = append(warnings, warn(EAMAddrOfHost, a, "%s of translation.eam, which represents %s, is already an address of this host", a, v4))
		case len(as) == maxEAMAddrs:
			left++
		default:
			as = append(as, a)
		}
	}
	if left > 0 {
		warnings = append(warnings, warn(EAMAddrsTooMany, nil, "%d addresses of translation.eam on %s get no answers to neighbour discovery: the limit is %d", left, l.Name, maxEAMAddrs))
	}
	for _, e := range m.EAM {
		if !onLink(e.IPv6.Addr()) || !isBehind(o, l, e.IPv4) {
			continue
		}
		if e.IPv4.IsSingleIP() {
			warnings = append(warnings, warn(EAMNetworkOnLink, e.IPv6, "%s of translation.eam lies in a network on %s: to reach %s behind this host, neighbours need a route to this host", e.IPv6.Addr(), l.Name, e.IPv4.Addr()))
			continue
		}
		warnings = append(warnings, warn(EAMNetworkOnLink, e.IPv6, "%s of translation.eam lies in a network on %s: to reach hosts of %s behind this one, neighbours need a route to this host", e.IPv6, l.Name, e.IPv4))
	}
	return as, warnings
}

// isBehind reports whether a part of p is a network of the host on another link,
// by an address of the host or by a route, and not just an address of the host.
func isBehind(o Observed, l Link, p netip.Prefix) bool {
	own := func(e Addr) bool { return e.Prefix.Addr() == p.Addr() }
	if p.IsSingleIP() && slices.ContainsFunc(o.Addrs, own) {
		return false
	}
	contains := func(link int, n netip.Prefix) bool {
		on, ok := o.LinkByIndex(link)
		return ok && link != l.Index && !o.IsOurs(on) && n.Addr().Is4() && n.Bits() >= MinNetwork && n.Overlaps(p)
	}
	return slices.ContainsFunc(o.Addrs, func(e Addr) bool { return e.Prefix.Bits() < 32 && contains(e.Link, e.Prefix) }) ||
		slices.ContainsFunc(o.OnLink4, func(n OnLink) bool { return contains(n.Link, n.Prefix) })
}

// eamIPv6 maps an IPv4 address by the entry with the longest prefix (RFC 7757
// section 3.3.1).
func eamIPv6(eam []siit.EAM, v4 netip.Addr) (netip.Addr, bool) {
	fits := slices.DeleteFunc(slices.Clone(eam), func(e siit.EAM) bool { return !e.IPv4.Contains(v4) })
	if len(fits) == 0 {
		return netip.Addr{}, false
	}
	e := slices.MaxFunc(fits, func(a, b siit.EAM) int { return cmp.Compare(a.IPv4.Bits(), b.IPv4.Bits()) })
	from, to := v4.As4(), e.IPv6.Masked().Addr().As16()
	at := e.IPv6.Bits() // of the next bit of the suffix
	for i := e.IPv4.Bits(); i < 32 && at < 128; i, at = i+1, at+1 {
		if from[i/8]&(0x80>>(i%8)) != 0 {
			to[at/8] |= 0x80 >> (at % 8)
		}
	}
	return netip.AddrFrom16(to), true
}
