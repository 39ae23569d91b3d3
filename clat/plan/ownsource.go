package plan

import "net/netip"

// OwnSource reports whether programs of the host that use native IPv6 on a link
// have a source address other than a CLAT's: a valid global address of the
// link, or a preferred one of another link. Without one the kernel would choose
// the CLAT IPv6 address, although that is deprecated (RFC 6724 section 5: rule 2
// decides between it and a link-local address before rule 3 does). An address
// in DAD is not a candidate (RFC 4862 section 5.4), and inDAD is one of those,
// if there is one on the link.
//
// A deprecated address of the link is enough: the CLAT address has an address
// label of its own, and loses by rule 6.
func OwnSource(o Observed, link int) (ok bool, inDAD netip.Addr) {
	for _, a := range o.Addrs {
		l, _ := o.LinkByIndex(a.Link)
		ip := a.Prefix.Addr()
		if !ip.Is6() || !ip.IsGlobalUnicast() || owns(o, ip) || o.IsOurs(l) || a.Protocol == Protocol || a.DADFailed || a.Valid <= 0 {
			continue
		}
		switch {
		case a.Tentative && a.Link == link:
			inDAD = ip
		case a.Tentative:
		case a.Link == link || !a.Deprecated:
			return true, netip.Addr{}
		}
	}
	return false, inDAD
}

// whyNoCLATAddr returns why the link must have no CLAT IPv6 address yet, or any
// more.
func whyNoCLATAddr(o Observed, l Link, c Config) Why {
	ok, inDAD := OwnSource(o, l.Index)
	switch {
	case ok:
		return Why{}
	case inDAD.IsValid():
		return because(HostInDAD, "waiting for duplicate address detection of %s on %s", inDAD, l.Name)
	case c.waitsForNothing():
		return Why{}
	}
	return because(NoIPv6Address, "waiting for an IPv6 address on %s", l.Name)
}
