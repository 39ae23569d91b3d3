package pref64

import (
	"bytes"
	"net/netip"
	"slices"
)

// wellKnown are the two IPv4 addresses of ipv4only.arpa (RFC 7050 section 2.2).
var wellKnown = [2][4]byte{{192, 0, 0, 170}, {192, 0, 0, 171}}

// positions are where an IPv4 address lies in an IPv6 address, by the length
// of the prefix (RFC 6052 section 2.2). Byte 8 is always left out.
var positions = [...]struct {
	bits  int
	bytes [4]int
}{
	{32, [4]int{4, 5, 6, 7}},
	{40, [4]int{5, 6, 7, 9}},
	{48, [4]int{6, 7, 9, 10}},
	{56, [4]int{7, 9, 10, 11}},
	{64, [4]int{9, 10, 11, 12}},
	{96, [4]int{12, 13, 14, 15}},
}

// prefixOf returns the prefix under which a DNS64 has put one of the well-known
// addresses into a (RFC 7050 section 3). A well-known address that occurs a
// second time, anywhere on an octet boundary, leaves open which of the two is
// the embedded one; then the other well-known address may tell, in this
// address or in the next. Nothing is ever guessed. What comes after the
// embedded address (the suffix) is not looked at.
func prefixOf(a netip.Addr) (netip.Prefix, Reason) {
	b := a.As16()
	reason := NoWellKnown
	for _, wka := range wellKnown {
		bits, found := 0, 0
		for at := 0; at+4 <= len(b); at++ {
			if !bytes.Equal(b[at:at+4], wka[:]) {
				continue
			}
			found++
			switch {
			case at == 12:
				bits = 96
			case at == 4 && b[8] == 0:
				bits = 32
			case at == 9 && b[8] == 0:
				bits = 64
			}
		}
		// The three that byte 8 splits.
		for _, p := range positions[1:4] {
			if b[8] == 0 && [4]byte{b[p.bytes[0]], b[p.bytes[1]], b[p.bytes[2]], b[p.bytes[3]]} == wka {
				found++
				bits = p.bits
			}
		}
		switch {
		case found > 1:
			reason = Ambiguous
		case bits != 0:
			prefix, err := Check(netip.PrefixFrom(a.WithZone(""), bits))
			if err != nil {
				return netip.Prefix{}, BadPrefix
			}
			return prefix, None
		}
	}
	return netip.Prefix{}, reason
}

// prefixesOf returns the prefixes of the addresses that ipv4only.arpa has
// here, each once, in order. Without any it returns why.
func prefixesOf(addrs []netip.Addr) ([]netip.Prefix, Reason) {
	var (
		prefixes []netip.Prefix
		reason   = None
	)
	for _, a := range addrs {
		p, r := prefixOf(a)
		switch {
		case r != None:
			// The most telling one: ambiguous before nothing found.
			reason = max(reason, r)
		case !slices.Contains(prefixes, p):
			prefixes = append(prefixes, p)
		}
	}
	if len(prefixes) > 0 {
		return prefixes, None
	}
	return nil, reason
}
