package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"tnat64d/siit"
)

// ipv6 chooses the IPv6 address of a CLAT: the configured one, one that is formed in
// a prefix of the uplink or in one that is routed to the host, or one of the host's
// own, which the CLAT then shares.
func (p *planner) ipv6(l Link, fixed bool, running Remembered, v4 netip.Addr, pref64 PREF64) (a netip.Addr, shared bool, why Why) {
	o, c := p.o, p.c
	taken := behindNetworks(c.Translation.Mapping.Networks)
	switch {
	case fixed && c.IPv6.IsValid():
		return c.IPv6, false, whyNotFixed(o, l, c.IPv6, append(taken, pref64.Prefix))
	case c.Shared:
		a, why = sharedIPv6(o, l, running, pref64.Prefix, taken)
		return a, true, why
	}
	prefix, why := formingPrefix(o, l, pref64, taken)
	if why.missing() {
		if routed, ok := routedPrefix(o, l, pref64); ok && !within(taken, routed.Addr()) {
			prefix, why = routed, Why{}
		}
	}
	if !why.is() {
		id := identity{secret: c.Secret, prefix: prefix, iface: l.Name, ipv4: v4, pref64: pref64.Prefix}
		if a = servedIPv6(o, l, id); !a.IsValid() {
			a, why = derivedIPv6(o, l, id)
		}
	}
	if !why.missing() {
		return a, false, why
	}
	a, none := sharedIPv6(o, l, running, pref64.Prefix, taken)
	switch {
	case !none.is():
		return a, true, none
	case none.Reason == HostInDAD || none.Reason == HostDADFailed:
		return a, false, none
	}
	return netip.Addr{}, false, why
}

// behindNetworks returns the NAT64 prefixes of networks that have one of their own.
// A PLAT drops packets from there, and which prefix a link has is its routers' word.
func behindNetworks(networks []siit.Network) (prefixes []netip.Prefix) {
	for _, n := range networks {
		if n.PREF64.IsValid() {
			prefixes = append(prefixes, n.PREF64)
		}
	}
	return prefixes
}

// within reports whether a is in one of prefixes.
func within(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// missing reports whether the network lacks what it may have again.
func (w Why) missing() bool {
	return w.Reason == NoFormablePrefix || w.Reason == NoIPv6Address || w.Reason == DHCPv6Only || w.Reason == HostInDAD || w.Reason == HostDADFailed
}

// elsewhere lists addresses of the host on other interfaces, such as the loopback
// interface, that are routed to it through the uplink l, which has none.
func elsewhere(o Observed, l Link, pref64 netip.Prefix) (as []Addr) {
	for _, a := range o.Addrs {
		if !a.Tentative && usableElsewhere(o, l, a, pref64) && belongsTo(o, l, a) {
			as = append(as, a)
		}
	}
	return as
}

// sharedIPv6 chooses among the host's own addresses on an uplink, or else those that
// are routed to the host through it. One that is shared
// already stays while it is preferred: its connections would not survive another.
// Then the choice is that of RFC 6724 section 5 towards PREF64. Temporary addresses
// come last, because they go soon. No address is in one of the prefixes taken.
func sharedIPv6(o Observed, l Link, running Remembered, pref64 netip.Prefix, taken []netip.Prefix) (netip.Addr, Why) {
	var (
		own           []Addr
		inDAD, failed netip.Addr
	)
	for _, a := range o.Addrs {
		ip := a.Prefix.Addr()
		switch {
		case a.Link != l.Index || !ip.Is6() || !ip.IsGlobalUnicast() || owns(o, ip) || a.Valid <= 0 || within(taken, ip):
		case a.DADFailed:
			failed = ip
		case a.Tentative:
			inDAD = ip
		default:
			own = append(own, a)
		}
	}
	if len(own) == 0 && !inDAD.IsValid() && !failed.IsValid() {
		own = slices.DeleteFunc(elsewhere(o, l, pref64), func(a Addr) bool { return within(taken, a.Prefix.Addr()) })
	}
	switch {
	case len(own) == 0 && inDAD.IsValid():
		return netip.Addr{}, because(HostInDAD, "waiting for duplicate address detection of %s on %s", inDAD, l.Name)
	case len(own) == 0 && failed.IsValid():
		return netip.Addr{}, because(HostDADFailed, "another host on %s has this host's address %s: duplicate address detection failed, and the kernel does not use it", l.Name, failed)
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
