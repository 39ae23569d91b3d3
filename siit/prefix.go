package siit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// WellKnownPrefix returns 64:ff9b::/96 (RFC 6052 section 2.1).
func WellKnownPrefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b}), 96)
}

// Prefix is a PREF64 that is ready to embed IPv4 addresses in, and to extract
// them from (RFC 6052 section 2.2). The IPv4 address takes these bytes of the
// IPv6 address, counted from 0:
//
//	/32: bytes 4 5 6 7        /56: bytes 7, 9 10 11
//	/40: bytes 5 6 7, 9       /64: bytes 9 10 11 12
//	/48: bytes 6 7, 9 10      /96: bytes 12 13 14 15
//
// Byte 8, the octet "u", is zero in all but the /96, where it is part of the
// prefix. The zero value is not valid; see [NewPrefix].
type Prefix struct {
	length int    // bits
	hi, lo uint64 // the prefix as two big-endian words, zero behind its length
}

// NewPrefix prepares p, an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits. Bits
// beyond its length are ignored.
func NewPrefix(p netip.Prefix) (Prefix, error) {
	if !p.IsValid() {
		return Prefix{}, errors.New("PREF64 is missing")
	}
	if !p.Addr().Is6() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
		return Prefix{}, fmt.Errorf("PREF64 %q is not an IPv6 prefix", p)
	}
	if !validLength(p.Bits()) {
		return Prefix{}, fmt.Errorf("PREF64 %q has length %d; RFC 6052 section 2.2 allows 32, 40, 48, 56, 64 and 96", p, p.Bits())
	}
	b := p.Masked().Addr().As16()
	return Prefix{length: p.Bits(), hi: binary.BigEndian.Uint64(b[:]), lo: binary.BigEndian.Uint64(b[8:])}, nil
}

func validLength(bits int) bool {
	switch bits {
	case 32, 40, 48, 56, 64, 96:
		return true
	}
	return false
}

// Embed returns the IPv6 address that stands for the IPv4 address a. The suffix
// is zero.
func (p Prefix) Embed(a netip.Addr) netip.Addr {
	var b [16]byte
	p.embed(b[:], v4(a))
	return netip.AddrFrom16(b)
}

// Extract returns the IPv4 address for which a stands; the octet "u" and the
// suffix of a are ignored. ok is false if a lies outside the prefix.
func (p Prefix) Extract(a netip.Addr) (v4 netip.Addr, ok bool) {
	b := a.As16()
	if !a.Is6() || !p.contains(b[:]) {
		return netip.Addr{}, false
	}
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], p.extract(b[:]))
	return netip.AddrFrom4(out), true
}

// ExtractAt returns the IPv4 address that lies in the IPv6 address a where a
// prefix of so many bits has it, whatever the prefix is; the octet "u" and the
// suffix are ignored. ok is false if RFC 6052 knows no prefix of that length.
func ExtractAt(a netip.Addr, bits int) (v4 netip.Addr, ok bool) {
	if !a.Is6() || !validLength(bits) {
		return netip.Addr{}, false
	}
	b := a.As16()
	p := Prefix{length: bits}
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], p.extract(b[:]))
	return netip.AddrFrom4(out), true
}

// contains reports whether the IPv6 address in the first 16 bytes of a lies in the prefix.
func (p *Prefix) contains(a []byte) bool {
	hi := binary.BigEndian.Uint64(a)
	if p.length == 96 {
		return hi == p.hi && binary.BigEndian.Uint32(a[8:]) == uint32(p.lo>>32)
	}
	shift := 64 - uint(p.length)
	return hi>>shift == p.hi>>shift
}

// embed writes the IPv6 address of v4 to the first 16 bytes of dst.
func (p *Prefix) embed(dst []byte, v4 uint32) {
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
// inside the prefix.
func (p *Prefix) extract(a []byte) uint32 {
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
