package clat

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// identity is what a CLAT IPv6 address is derived from, and what it has to be
// checksum-neutral with.
type identity struct {
	secret []byte
	prefix netip.Prefix // the uplink's /64
	iface  string
	ipv4   netip.Addr
	pref64 netip.Prefix
}

// address returns candidate n (0, 1, ...) for the CLAT address: 48 bits of a
// keyed hash as in RFC 7217, so that it is stable on one network and cannot
// be followed across networks, and 16 bits that make it checksum-neutral.
//
// The universal and group bits are clear: the identifier can then be taken
// neither for one made from a MAC address nor for a reserved one of RFC 5453
// (fdff:ffff:ffff:ff80 and up, 0200:5eff:fe00::/40).
func (id identity) address(n int) netip.Addr {
	for salt := byte(0); ; salt++ {
		a := id.hashed(byte(n), salt)
		if !subnetAnycast(a) {
			return a
		}
	}
}

func (id identity) hashed(n, salt byte) netip.Addr {
	h := hmac.New(sha256.New, id.secret)
	h.Write([]byte("tnat64d CLAT address\x00"))
	p := id.prefix.Addr().As16()
	h.Write(p[:8])
	h.Write([]byte{n, salt})
	h.Write([]byte(id.iface))
	sum := h.Sum(nil)

	a := p
	copy(a[8:14], sum)
	a[8] &^= 0x03 // universal/local and group bit
	binary.BigEndian.PutUint16(a[14:], id.neutral(a))
	return netip.AddrFrom16(a)
}

// neutral returns the last word with which address a leaves the checksum of
// every transport protocol unchanged by translation: all address words of the
// IPv6 pseudo-header must sum to those of the IPv4 one, modulo 0xffff
// (standards.md ).
//
// With a PREF64 of 96 or 32 bits the embedded IPv4 destination stands at an
// even offset, adds the same in both families, and the prefix adds a constant
// that a makes up for. With the other lengths bytes of the destination change
// places within their words, so that no constant exists; a is then neutral
// for the IPv4 address alone.
func (id identity) neutral(a [16]byte) uint16 {
	v4 := id.ipv4.As4()
	want := sumWords(v4[:])
	have := sumWords(a[:14])
	if id.pref64.Bits() == 96 || id.pref64.Bits() == 32 {
		p := id.pref64.Masked().Addr().As16()
		have += sumWords(p[:])
	}
	const m = 0xffff
	return uint16((want%m + m - have%m) % m)
}

func sumWords(b []byte) uint32 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return s
}

// subnetAnycast reports whether the identifier is zero, the subnet-router
// anycast address (RFC 4291 section 2.6.1).
func subnetAnycast(a netip.Addr) bool {
	b := a.As16()
	return binary.BigEndian.Uint64(b[8:]) == 0
}
