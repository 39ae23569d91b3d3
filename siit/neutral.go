package siit

import "net/netip"

// Checksum neutrality (RFC 6052 section 4.1): if the address words of the IPv6
// pseudo-header have the same one's complement sum as those of the IPv4 one, a
// translator need not touch the checksum of TCP, UDP or any other transport
// protocol, known or not.

// Neutral reports whether packets between pair and hosts behind the prefix are
// translated without a change of their transport checksum.
func (p Prefix) Neutral(pair Pair) bool {
	v6 := pair.IPv6.As16()
	return p.aligned() && add(sum16(v6[:]), p.sum())%0xffff == sum4(v4(pair.IPv4))%0xffff
}

// NeutralWord returns the value of the last 16 bits of the IPv6 address that
// make it and the IPv4 address of pair neutral; those that it has do not matter.
//
// Behind a prefix of 40, 48, 56 or 64 bits there is no such value, because the
// bytes of the other address change places within their 16-bit words. The two
// addresses of pair then have the same sum, and the prefix does not count.
func (p Prefix) NeutralWord(pair Pair) uint16 {
	v6 := pair.IPv6.As16()
	v6[14], v6[15] = 0, 0
	have := sum16(v6[:])
	if p.aligned() {
		have = add(have, p.sum())
	}
	return delta(have, sum4(v4(pair.IPv4))) % 0xffff
}

// aligned reports whether an embedded IPv4 address keeps its place within the
// 16-bit words, so that what the prefix adds to the sum is always the same.
func (p Prefix) aligned() bool { return p.length == 32 || p.length == 96 }

// sum returns the one's complement sum of the prefix.
func (p Prefix) sum() uint16 { return add(fold(p.hi), fold(p.lo)) }

// Pair is an address in both families, such as the CLAT's own.
type Pair struct {
	IPv4, IPv6 netip.Addr
}
