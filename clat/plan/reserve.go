package plan

import "net/netip"

// reserve returns the address that the uplink is to have while native IPv4 or
// another program's CLAT makes a CLAT unnecessary, so that the CLAT need not wait
// for DAD when that goes; invalid: none. The rules are those for the address of a
// CLAT.
func (p *planner) reserve(l Link, standby Why) netip.Addr {
	var none netip.Addr
	o, c, running := p.o, p.c, p.o.Memory.CLAT(l.Index)
	fixed := p.hasFixed(l)
	if standby.Reason != NativeIPv4 && standby.Reason != OtherCLAT || fixed && c.IPv6.IsValid() && p.uplinks > 1 || whyNoCLATAddr(o, l, c).is() {
		return none // a CLAT on another uplink may need the configured address
	}
	p64, why := pref64For(o, l)
	if why.is() {
		return none
	}
	if _, why := mtuFor(o, l, c); why.is() {
		return none
	}
	v4, why := p.ipv4(l, running, fixed)
	if why.is() {
		return none
	}
	v6, shared, why := p.ipv6(l, fixed, running, v4, p64)
	if why.is() || shared {
		return none
	}
	return v6
}
