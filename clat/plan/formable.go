package plan

import (
	"net/netip"
	"slices"
)

// maxFormable is the longest on-link prefix in which an address is formed. Longer
// prefixes have hardly any free address.
const maxFormable = 120

// Formable returns the prefix in which a CLAT address can be formed beside a, an
// address of the host: the on-link prefix of a if it is a /64 to /120, and the /64
// around a if it is shorter. It returns false for temporary addresses, those that
// DAD refused, and those without an on-link prefix (/128, point-to-point links).
func (a Addr) Formable() (netip.Prefix, bool) {
	bits := a.Prefix.Bits()
	if bits < 1 || bits > maxFormable || a.Temporary || a.DADFailed {
		return netip.Prefix{}, false
	}
	p, err := a.Prefix.Addr().Prefix(max(bits, 64))
	return p, err == nil
}

// byHand reports whether an administrator configured the address and its prefix:
// unlike an address from DHCPv6 it does not expire, and the kernel did not form it
// by SLAAC. The administrator of a link may use its addresses even where routers
// advertise the prefix without the A flag or not at all; RFC 4862 section 5.5.3
// concerns addresses that hosts form unasked.
func (a Addr) byHand() bool { return a.Valid == Forever && a.Protocol != protocolRA }

// numberedByHand reports whether the link has an IPv6 address that an administrator
// configured with a prefix in which others can be formed.
func numberedByHand(o Observed, link int) bool {
	for _, a := range o.Addrs {
		if _, ok := a.Formable(); ok && a.Link == link && a.byHand() && a.Prefix.Addr().IsGlobalUnicast() && a.Prefix.Addr().Is6() && !owns(o, a.Prefix.Addr()) {
			return true
		}
	}
	return false
}

// sharesPrefix reports whether a is in the network of e, an address of the host:
// in its on-link prefix if that is a /65 to /120, else in its /64.
func (e Addr) sharesPrefix(a netip.Addr) bool {
	if bits := e.Prefix.Bits(); bits > 64 && bits <= maxFormable {
		return e.Prefix.Contains(a)
	}
	return prefixOf(a).Contains(e.Prefix.Addr())
}

// givenByHand reports whether a is in a network of the link that an administrator
// configured, whatever routers advertise.
func givenByHand(o Observed, link int, a netip.Addr) bool {
	return slices.ContainsFunc(o.Addrs, func(e Addr) bool {
		_, ok := e.Formable()
		return ok && e.Link == link && e.byHand() && e.Prefix.Addr().Is6() && e.sharesPrefix(a) && !owns(o, e.Prefix.Addr())
	})
}
