package plan

import (
	"cmp"
	"net/netip"
	"slices"
)

// ipv6 chooses the IPv6 address of a CLAT: the configured one, one that is formed in
// a prefix of the uplink, or one of the host's own, which the CLAT then shares.
func (p *planner) ipv6(l Link, fixed bool, running Remembered, v4 netip.Addr, pref64 PREF64) (a netip.Addr, shared bool, why Why) {
	o, c := p.o, p.c
	switch {
	case fixed && c.IPv6.IsValid():
		return c.IPv6, false, whyNotFixed(o, l, c.IPv6, pref64.Prefix)
	case c.Shared:
		a, why = sharedIPv6(o, l, running, pref64.Prefix)
		return a, true, why
	}
	prefix, why := formingPrefix(o, l, pref64)
	if !why.is() {
		id := identity{secret: c.Secret, prefix: prefix, iface: l.Name, ipv4: v4, pref64: pref64.Prefix}
		if a = servedIPv6(o, l, id); !a.IsValid() {
			a, why = derivedIPv6(o, l, id)
		}
	}
	if !why.missing() {
		return a, false, why
	}
	a, none := sharedIPv6(o, l, running, pref64.Prefix)
	switch {
	case !none.is():
		return a, true, none
	case none.Reason == HostInDAD:
		return a, false, none
	}
	return netip.Addr{}, false, why
}

// missing reports whether the network lacks what it may have again.
func (w Why) missing() bool {
	return w.Reason == NoFormablePrefix || w.Reason == NoIPv6Address || w.Reason == DHCPv6Only || w.Reason == HostInDAD
}

// sharedIPv6 chooses among the host's own addresses on an uplink. One that is shared
// already stays while it is preferred: its connections would not survive another.
// Then the choice is that of RFC 6724 section 5 towards PREF64. Temporary addresses
// come last, because they go soon.
func sharedIPv6(o Observed, l Link, running Remembered, pref64 netip.Prefix) (netip.Addr, Why) {
	var (
		own   []Addr
		inDAD netip.Addr
	)
	for _, a := range o.Addrs {
		ip := a.Prefix.Addr()
		switch {
		case a.Link != l.Index || !ip.Is6() || !ip.IsGlobalUnicast() || owns(o, ip) || a.DADFailed || a.Valid <= 0:
		case a.Tentative:
			inDAD = ip
		default:
			own = append(own, a)
		}
	}
	switch {
	case len(own) == 0 && inDAD.IsValid():
		return netip.Addr{}, because(HostInDAD, "waiting for duplicate address detection of %s on %s", inDAD, l.Name)
	case len(own) == 0:
		return netip.Addr{}, because(NoIPv6Address, "waiting for an IPv6 address on %s", l.Name)
	}
	match := func(a Addr) int { return min(commonBits(a.Prefix.Addr(), pref64.Addr()), 64) }
	return slices.MinFunc(own, func(a, b Addr) int {
		x, y := a.Prefix.Addr(), b.Prefix.Addr()
		return cmp.Or(
			yesFirst(!a.Deprecated, !b.Deprecated),
			yesFirst(x == running.IPv6, y == running.IPv6),
			yesFirst(!a.Temporary, !b.Temporary),
			yesFirst(label(x) == label(pref64.Addr()), label(y) == label(pref64.Addr())),
			cmp.Compare(match(b), match(a)),
			cmp.Compare(b.Valid, a.Valid),
			x.Compare(y),
		)
	}).Prefix.Addr(), Why{}
}
