package siit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// prefix64 is a PREF64 prepared for embedding IPv4 addresses (RFC 6052 section 2.2).
//
//	/32: bytes 4 5 6 7        /56: bytes 7, 9 10 11
//	/40: bytes 5 6 7, 9       /64: bytes 9 10 11 12
//	/48: bytes 6 7, 9 10      /96: bytes 12 13 14 15
//
// Byte 8, the octet "u", is zero in all but the /96, where it is part of the prefix.
type prefix64 struct {
	length int // bits
	bytes  [16]byte
	hi, lo uint64 // the same as numbers, to compare with
}

var wellKnownPrefix = netip.MustParsePrefix("64:ff9b::/96")

func newPrefix64(p netip.Prefix) (prefix64, error) {
	if !p.IsValid() {
		return prefix64{}, errors.New("PREF64 is missing")
	}
	if !p.Addr().Is6() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
		return prefix64{}, fmt.Errorf("PREF64 %q is not an IPv6 prefix", p)
	}
	switch p.Bits() {
	case 32, 40, 48, 56, 64, 96:
	default:
		return prefix64{}, fmt.Errorf("PREF64 %q has length %d; RFC 6052 section 2.2 allows 32, 40, 48, 56, 64 and 96", p, p.Bits())
	}
	q := prefix64{length: p.Bits(), bytes: p.Masked().Addr().As16()}
	q.hi = binary.BigEndian.Uint64(q.bytes[:])
	q.lo = binary.BigEndian.Uint64(q.bytes[8:])
	return q, nil
}

// contains reports whether the IPv6 address in the first 16 bytes of a lies in the prefix.
func (p *prefix64) contains(a []byte) bool {
	hi := binary.BigEndian.Uint64(a)
	if p.length == 96 {
		return hi == p.hi && binary.BigEndian.Uint32(a[8:]) == uint32(p.lo>>32)
	}
	shift := 64 - uint(p.length)
	return hi>>shift == p.hi>>shift
}

// embed writes the IPv6 address of v4 to the first 16 bytes of dst.
func (p *prefix64) embed(dst []byte, v4 uint32) {
	if p.length == 96 {
		binary.BigEndian.PutUint64(dst, p.hi)
		binary.BigEndian.PutUint64(dst[8:], p.lo|uint64(v4))
		return
	}
	// The 40 bits from byte `length/8` on hold the address with the octet u
	// somewhere among them: first the bytes in front of u, then the others.
	front := 64 - p.length // address bits in front of byte 8
	if front >= 32 {       // only /32: all of them
		binary.BigEndian.PutUint64(dst, p.hi|uint64(v4))
		binary.BigEndian.PutUint64(dst[8:], 0)
		return
	}
	behind := 32 - front
	binary.BigEndian.PutUint64(dst, p.hi|uint64(v4)>>behind)
	binary.BigEndian.PutUint64(dst[8:], uint64(v4)<<(64-behind)>>8)
}

// extract returns the IPv4 address in the first 16 bytes of a, an address
// inside the prefix. Byte 8 and the suffix are ignored (RFC 6052 section 2.2).
func (p *prefix64) extract(a []byte) uint32 {
	if p.length == 96 {
		return binary.BigEndian.Uint32(a[12:])
	}
	front := 64 - p.length
	if front >= 32 {
		return binary.BigEndian.Uint32(a[4:])
	}
	behind := 32 - front
	v := binary.BigEndian.Uint64(a) & (1<<front - 1) << behind
	return uint32(v | binary.BigEndian.Uint64(a[8:])<<8>>(64-behind))
}

// v4 returns a as a number.
func v4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// cidr is an IPv4 prefix as numbers.
type cidr struct{ addr, mask uint32 }

func inAny(set []cidr, a uint32) bool {
	for _, c := range set {
		if a&c.mask == c.addr {
			return true
		}
	}
	return false
}

// cidrs returns the IPv4 networks of a list without those inside others.
func cidrs(networks []netip.Prefix) (set []cidr, err error) {
	networks = slices.Clone(networks)
	slices.SortFunc(networks, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	for _, n := range networks {
		if !n.IsValid() || !n.Addr().Is4() {
			return nil, fmt.Errorf("%q is not an IPv4 network", n)
		}
		if a := v4(n.Masked().Addr()); !inAny(set, a) {
			set = append(set, cidr{a, ^uint32(uint64(1)<<(32-n.Bits()) - 1)})
		}
	}
	return set, nil
}

// illegalSource4 reports whether no packet may come from a: unspecified and
// "this network", loopback, multicast, class E, broadcast (RFC 1812 section 5.3.7).
func illegalSource4(a uint32) bool {
	return a>>24 == 0 || a>>24 == 127 || a >= 0xe0000000
}

// illegalDestination4 reports whether packets to a must not leave the host
// through a translator: the above, link-local, and the block of the CLATs
// themselves (RFC 7335).
func illegalDestination4(a uint32) bool {
	return illegalSource4(a) || isLinkLocal4(a) || isCLAT4(a)
}

// isLinkLocal4 reports whether a lies in 169.254.0.0/16 (RFC 3927), which no
// router forwards.
func isLinkLocal4(a uint32) bool { return a>>16 == 0xa9fe }

// isCLAT4 reports whether a lies in 192.0.0.0/29, the block of the CLATs'
// IPv4 addresses (RFC 7335).
func isCLAT4(a uint32) bool { return a&^7 == 0xc0000000 }

// private lists what must not stand behind the well-known prefix where RFC
// 6052 section 3.1 is taken by the letter: private and special-purpose
// addresses. The documentation prefixes are left out, as in laboratories they
// stand for global addresses and nowhere else are they in use.
var private = []cidr{
	{0x0a000000, 0xff000000}, // 10.0.0.0/8
	{0x64400000, 0xffc00000}, // 100.64.0.0/10
	{0xa9fe0000, 0xffff0000}, // 169.254.0.0/16
	{0xac100000, 0xfff00000}, // 172.16.0.0/12
	{0xc0000000, 0xffffff00}, // 192.0.0.0/24
	{0xc0a80000, 0xffff0000}, // 192.168.0.0/16
	{0xc6120000, 0xfffe0000}, // 198.18.0.0/15
}

// dummy4 is 192.0.0.8, the source of ICMP errors from nodes without an IPv4
// address (RFC 7600 section 4.8, draft-ietf-v6ops-icmpext-xlat-v6only-source).
const dummy4 = 0xc0000008

// illegalSource6 reports whether no packet may come from the address in the
// first 16 bytes of a: ::, ::1 and multicast.
func illegalSource6(a []byte) bool {
	return a[0] == 0xff || binary.BigEndian.Uint64(a) == 0 && binary.BigEndian.Uint64(a[8:]) <= 1
}
