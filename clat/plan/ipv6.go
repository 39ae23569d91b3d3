package plan

import (
	"net/netip"
	"slices"
)

// whyNotFixed returns why the configured IPv6 address cannot be that of the CLAT.
func whyNotFixed(o Observed, l Link, a netip.Addr, pref64s []netip.Prefix) Why {
	for _, p := range pref64s {
		if p.Contains(a) {
			return because(IPv6InPREF64, "the configured IPv6 address %s lies in PREF64 %s", a, p)
		}
	}
	switch {
	case isForeign(o, a):
		return because(IPv6OfHost, "the configured IPv6 address %s is already one of this host's own; the CLAT needs one for itself", a)
	case isRefused(o, l, a):
		return because(IPv6Refused, "the configured IPv6 address %s is in use by another host on %s; retrying in a minute", a, l.Name)
	}
	return Why{}
}

// servedIPv6 returns the address that served last in the prefix of id and was
// derived in the same way, or an invalid address. After a change of the PREF64 it
// is no longer checksum-neutral, but a new address would abort connections once
// more.
func servedIPv6(o Observed, l Link, id identity) netip.Addr {
	for _, a := range o.Memory.served(l) {
		if id.derives(a) && !isRefused(o, l, a) && !isForeign(o, a) {
			return a
		}
	}
	return netip.Addr{}
}

// derivedIPv6 returns the first candidate in the uplink's prefix that DAD has not
// refused and that the host does not use otherwise.
func derivedIPv6(o Observed, l Link, id identity) (netip.Addr, Why) {
	tries := id.tries()
	for n := range tries {
		if a := id.address(n); !isRefused(o, l, a) && !isForeign(o, a) {
			return a, Why{}
		}
	}
	return netip.Addr{}, because(CandidatesRefused, "%d addresses in %s on %s are in use by other hosts: set clat.ipv6 to a free one", tries, id.prefix, l.Name)
}

// owns reports whether a is a CLAT address that we put on an uplink.
func owns(o Observed, a netip.Addr) bool { return slices.Contains(o.Memory.Own, a) }

// isForeign reports whether the host uses the address a for something else.
func isForeign(o Observed, a netip.Addr) bool {
	return !owns(o, a) && slices.ContainsFunc(o.Addrs, func(e Addr) bool { return e.Prefix.Addr() == a })
}

func isRefused(o Observed, l Link, a netip.Addr) bool {
	return slices.Contains(o.Memory.Refused, Refusal{l.Index, a})
}
