package plan

import (
	"net/netip"
	"slices"
)

// rfc7335 is the IPv4 service continuity prefix, for the inner side of
// translators on hosts.
var ServiceContinuityPrefix = netip.MustParsePrefix("192.0.0.0/29")

// ipv4 returns the IPv4 address of the CLAT: the configured one, the one it
// has, or the first of 192.0.0.0/29 that nobody has and that the translator
// does not use for its own errors (RFC 7335 section 3).
func (p *planner) ipv4(l Link, running Remembered, fixed bool) (netip.Addr, Why) {
	icmp := p.c.Translation.ICMPSource4
	if want := p.c.IPv4; fixed && want.IsValid() {
		if why := p.whyTaken(want); why != "" {
			return netip.Addr{}, because(IPv4Taken, "the configured IPv4 address %s %s", want, why)
		}
		return want, Why{} // errors get another source if it is theirs
	}
	free := func(a netip.Addr) bool {
		if a == icmp || a == p.c.IPv4 || p.whyTaken(a) != "" {
			return false
		}
		for _, r := range p.o.Memory.CLATs {
			if r.IPv4 == a && r.Uplink.Index != l.Index {
				return false
			}
		}
		return true
	}
	if a := running.IPv4; a.IsValid() && ServiceContinuityPrefix.Contains(a) && free(a) {
		return a, Why{}
	}
	first := ServiceContinuityPrefix.Addr().Next()
	for _, last := range [...]byte{1, 2, 3, 4, 5, 6, 7, 0} {
		if a := netip.AddrFrom4([4]byte{192, 0, 0, last}); free(a) {
			return a, Why{}
		}
	}
	return netip.Addr{}, because(IPv4Taken, "no address of %s is free: %s %s; set clat.ipv4 to a free address", ServiceContinuityPrefix, first, p.whyTaken(first))
}

// hasFixed reports whether the configured addresses are those of the CLAT on
// l: one CLAT has them. It is on the uplink in whose prefix clat.ipv6 lies, if
// there is such an uplink, else where it was, else on the first.
func (p *planner) hasFixed(l Link) bool {
	if p.fixed || !p.c.IPv4.IsValid() && !p.c.IPv6.IsValid() {
		return false
	}
	if p.c.IPv6.IsValid() && p.elsewhereOnLink(l, p.c.IPv6) {
		return false
	}
	for _, r := range p.o.Memory.CLATs {
		has := p.c.IPv6.IsValid() && r.IPv6 == p.c.IPv6 || p.c.IPv4.IsValid() && r.IPv4 == p.c.IPv4
		if other, ok := p.o.LinkByIndex(r.Uplink.Index); has && ok && r.Uplink.Index != l.Index &&
			isUplink(p.o, p.c, other) && (p.c.Enable == Always || !whyStandby(p.o, other).is()) {
			return false
		}
	}
	return true
}

// elsewhereOnLink reports whether a is in a prefix of another uplink and in none
// of l.
func (p *planner) elsewhereOnLink(l Link, a netip.Addr) bool {
	onLink := func(index int) bool {
		return slices.ContainsFunc(p.o.Addrs, func(e Addr) bool {
			return e.Link == index && e.Prefix.Bits() < a.BitLen() && e.Prefix.Contains(a)
		})
	}
	if onLink(l.Index) {
		return false
	}
	uplinks, _ := chooseUplinks(p.o, p.c)
	return slices.ContainsFunc(uplinks, func(u Link) bool { return onLink(u.Index) })
}
