package plan

import (
	"net/netip"
	"slices"
)

// maxFormable is the longest on-link prefix in which an address is formed: in
// longer ones hardly any is free.
const maxFormable = 120

// Formable returns the prefix in which a CLAT address can be formed beside a, an
// address of the host: its on-link prefix if that is between /64 and /120, and
// of a shorter one the /64 that a is in. There is none for addresses that will
// go or stand alone (/128, point-to-point links).
func (a Addr) Formable() (netip.Prefix, bool) {
	bits := a.Prefix.Bits()
	if bits < 1 || bits > maxFormable || a.Temporary || a.DADFailed {
		return netip.Prefix{}, false
	}
	p, err := a.Prefix.Addr().Prefix(max(bits, 64))
	return p, err == nil
}

// byHand reports whether an administrator gave the address and its prefix: it
// has no lifetime, unlike those of DHCPv6, and is not of the kernel's SLAAC. Who
// numbers a link by hand may use its addresses, even where routers advertise the
// prefix without the A flag or not at all (RFC 4862 section 5.5.3 is about
// forming addresses without being told).
func (a Addr) byHand() bool { return a.Valid == Forever && a.Protocol != protocolRA }

// numberedByHand reports whether the link has an address by hand with a prefix
// in which others can be formed.
func numberedByHand(o Observed, link int) bool {
	for _, a := range o.Addrs {
		if _, ok := a.Formable(); ok && a.Link == link && a.byHand() && a.Prefix.Addr().IsGlobalUnicast() && a.Prefix.Addr().Is6() && !owns(o, a.Prefix.Addr()) {
			return true
		}
	}
	return false
}

// sharesPrefix reports whether a may be an address of the network that e, an
// address of the host, is in. What e has no prefix for is in its /64.
func (e Addr) sharesPrefix(a netip.Addr) bool {
	if bits := e.Prefix.Bits(); bits > 64 && bits <= maxFormable {
		return e.Prefix.Contains(a)
	}
	return prefixOf(a).Contains(e.Prefix.Addr())
}

// givenByHand reports whether a is in a network of the link that was numbered by
// hand. Routers have no say in it.
func givenByHand(o Observed, link int, a netip.Addr) bool {
	return slices.ContainsFunc(o.Addrs, func(e Addr) bool {
		_, ok := e.Formable()
		return ok && e.Link == link && e.byHand() && e.Prefix.Addr().Is6() && e.sharesPrefix(a) && !owns(o, e.Prefix.Addr())
	})
}
