package siit

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// The Internet checksum (RFC 1071) is the complement of a one's complement sum
// of big-endian 16-bit words. "Sum" below always means the sum itself, "checksum"
// what stands in a header. A one's complement sum may be taken over 64-bit words
// and folded at the end, which is how the functions below do it.

// Sum returns the folded sum of b, starting from initial. A last odd byte
// counts as the high byte of a word.
func Sum(b []byte, initial uint16) uint16 { return checksum.Checksum(b, initial) }

// PseudoHeaderSum returns the folded sum of the pseudo-header that transport
// checksums cover (RFC 9293 section 3.1, RFC 8200 section 8.1): both addresses,
// of the same family, the length of the transport header and payload in bytes,
// and the protocol number. The checksum of a message is the complement of Sum
// over it, starting from this.
func PseudoHeaderSum(src, dst netip.Addr, length int, protocol uint8) uint16 {
	a, b := src.As16(), dst.As16()
	if src.Is4() {
		return add(add(add(Sum(a[12:], 0), Sum(b[12:], 0)), uint16(length)), uint16(protocol))
	}
	return pseudo6(append(a[:], b[:]...), length, protocol)
}

// add returns the one's complement sum of two sums.
func add(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s>>16 + s)
}

// fold reduces a 64-bit one's complement sum to 16 bits.
func fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}

// sum16 returns the sum of the first 16 bytes of b, an IPv6 address.
func sum16(b []byte) uint16 {
	s, c := bits.Add64(binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), 0)
	return fold(s + c)
}

// sum8 returns the sum of the first 8 bytes of b, two IPv4 addresses.
func sum8(b []byte) uint16 { return fold(binary.BigEndian.Uint64(b)) }

// sum4 returns the sum of the two words of an IPv4 address.
func sum4(a uint32) uint16 { return add(uint16(a>>16), uint16(a)) }

// headerSum20 returns the sum of a 20-byte IPv4 header.
func headerSum20(b []byte) uint16 {
	_ = b[19]
	s := uint64(binary.BigEndian.Uint32(b)) + uint64(binary.BigEndian.Uint32(b[4:])) +
		uint64(binary.BigEndian.Uint32(b[8:])) + uint64(binary.BigEndian.Uint32(b[12:])) +
		uint64(binary.BigEndian.Uint32(b[16:]))
	return fold(s)
}

// pseudo6 returns the sum of the IPv6 pseudo-header of RFC 8200 section 8.1;
// addrs are the 32 bytes of source and destination.
func pseudo6(addrs []byte, length int, next uint8) uint16 {
	s := add(sum16(addrs), sum16(addrs[16:]))
	s = add(s, uint16(length>>16))
	s = add(s, uint16(length))
	return add(s, uint16(next))
}

// delta returns what has to be added to a sum when the words that summed up to
// from are replaced by words that sum up to to (RFC 1624).
func delta(from, to uint16) uint16 { return add(^from, to) }

// updateComplete adjusts the complete checksum in the first two bytes of field
// for a change of what it covers: HC' = ~(~HC + ~m + m'), RFC 1624 equation 3.
func updateComplete(field []byte, d uint16) {
	hc := binary.BigEndian.Uint16(field)
	binary.BigEndian.PutUint16(field, ^add(^hc, d))
}

// updatePartial adjusts a partial checksum, as NeedsCsum announces it: the
// field holds the pseudo-header sum itself, not its complement, so the sign is
// the opposite of updateComplete's.
func updatePartial(field []byte, d uint16) {
	binary.BigEndian.PutUint16(field, add(binary.BigEndian.Uint16(field), d))
}

// neverZero writes 0xffff where a checksum came out as 0, which in UDP means
// that there is none (RFC 768, RFC 8200 section 8.1).
func neverZero(field []byte) {
	if field[0]|field[1] == 0 {
		field[0], field[1] = 0xff, 0xff
	}
}

// complete finishes a partial checksum: the bytes from start to the end of b
// are summed up, the pseudo-header sum that already stands in the checksum
// field included, and the complement is written there.
func complete(b []byte, start, offset int) {
	field := b[start+offset:]
	binary.BigEndian.PutUint16(field, ^Sum(b[start:], 0))
	neverZero(field)
}
