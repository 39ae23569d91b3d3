package pref64

import (
	"net/netip"
	"slices"

	"tnat64d/siit"
)

// wellKnown are the two IPv4 addresses of ipv4only.arpa (RFC 7050 section 2.2).
var wellKnown = [2][4]byte{{192, 0, 0, 170}, {192, 0, 0, 171}}

// wholeAt gives the lengths of prefix behind which an IPv4 address is in one
// piece, by the byte that it begins with; split are those that byte 8 splits it
// behind (RFC 6052 section 2.2).
var (
	wholeAt = [16]int{4: 32, 9: 64, 12: 96}
	split   = [...]int{40, 48, 56}
)

// search looks for an IPv4 address in b, on every octet boundary and where a
// DNS64 would split it, and returns how often it is there, and for which
// length of prefix. bits is 0 if it is not there exactly once, or not at a
// place for which there is a length. What comes after it (the suffix) is not
// looked at.
func search(b [16]byte, v4 [4]byte) (bits, times int) {
	for at := 0; at+4 <= len(b); at++ {
		if [4]byte(b[at:]) != v4 {
			continue
		}
		times++
		if n := wholeAt[at]; n != 0 && holds(b, n, v4) {
			bits = n
		}
	}
	for _, n := range split {
		if holds(b, n, v4) {
			times++
			bits = n
		}
	}
	if times != 1 {
		bits = 0
	}
	return bits, times
}

// holds reports whether v4 lies in b where it does behind a prefix of the
// given length (RFC 6052 section 2.2).
func holds(b [16]byte, bits int, v4 [4]byte) bool {
	got, _ := siit.ExtractAt(netip.AddrFrom16(b), bits)
	return got == netip.AddrFrom4(v4) && (bits == 96 || b[8] == 0)
}

// prefixOf returns the prefix under which a DNS64 has put one of the
// well-known addresses into a (RFC 7050 section 3). If these are in it more
// than once, part of the prefix looks like one. Then only a place counts whose
// value is there just once, and only if the answer, whose addresses all are,
// has the other well-known address behind the same prefix. Nothing is guessed.
func prefixOf(a netip.Addr, all []netip.Addr) (netip.Prefix, Reason) {
	var (
		b      = a.As16()
		bits   [2]int
		times  int
		prefix netip.Prefix
	)
	for i, wka := range wellKnown {
		n := 0
		bits[i], n = search(b, wka)
		times += n
	}
	for i := range wellKnown {
		p := netip.PrefixFrom(a.WithZone(""), bits[i]).Masked()
		switch {
		case bits[i] == 0:
		case times > 1 && !embedded(p, wellKnown[1-i], all):
		case prefix.IsValid():
			return netip.Prefix{}, Ambiguous
		default:
			prefix = p
		}
	}
	switch {
	case !prefix.IsValid() && times > 1:
		return netip.Prefix{}, Ambiguous
	case !prefix.IsValid():
		return netip.Prefix{}, NoWellKnown
	}
	if _, err := Check(prefix); err != nil {
		return netip.Prefix{}, BadPrefix
	}
	return prefix, None
}

// embedded reports whether v4 is behind p in one of the addresses.
func embedded(p netip.Prefix, v4 [4]byte, addrs []netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool {
		return p.Contains(a) && holds(a.As16(), p.Bits(), v4)
	})
}

// prefixesOf returns the prefixes of the addresses that ipv4only.arpa has
// here, each once, in order. Without any it returns why.
func prefixesOf(addrs []netip.Addr) ([]netip.Prefix, Reason) {
	var (
		prefixes []netip.Prefix
		reason   = None
	)
	for _, a := range addrs {
		p, r := prefixOf(a, addrs)
		switch {
		case r != None:
			reason = max(reason, r) // the most telling one is the last in the enum
		case !slices.Contains(prefixes, p):
			prefixes = append(prefixes, p)
		}
	}
	if len(prefixes) > 0 {
		return prefixes, None
	}
	return nil, reason
}
