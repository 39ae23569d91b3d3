package plan

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"tnat64d/siit"
)

// identity holds the inputs from which a CLAT IPv6 address is derived, and the
// addresses with which it has to be checksum-neutral.
type identity struct {
	secret []byte
	prefix netip.Prefix // of the uplink, /64 to /120
	iface  string
	ipv4   netip.Addr
	pref64 netip.Prefix
}

// address returns candidate n (0, 1, ...) for the CLAT address: bits of a keyed
// hash as in RFC 7217, followed by 16 bits that make the address checksum-neutral.
// The address is stable on one network and cannot be tracked across networks.
//
// In a /64 the universal and group bits are clear, so that the identifier is
// neither like one made from a MAC address nor one of those that RFC 5453
// reserves (fdff:ffff:ffff:ff80 and up, 0200:5eff:fe00::/40).
//
// Candidates in a prefix longer than /112 are not neutral, because no 16 bits are
// free. In one longer than /104 few neutral addresses exist: only candidate 0 is
// neutral.
func (id identity) address(n int) netip.Addr {
	for salt := 0; ; salt++ {
		a := id.hashed(byte(n), byte(salt))
		// The one neutral address of a /112 does not depend on the salt.
		if id.reserved(a) && salt == 0 && n == 0 && id.prefix.Bits() == 112 {
			return id.address(1)
		}
		if !id.reserved(a) || salt > 255 {
			return a
		}
	}
}

// derives reports whether a is one of the candidates, ignoring its last 16 bits,
// which depend on the PREF64.
func (id identity) derives(a netip.Addr) bool {
	if !id.prefix.Contains(a) {
		return false
	}
	want := a.As16()
	for n := range id.tries() {
		if got := id.address(n).As16(); [14]byte(got[:]) == [14]byte(want[:]) {
			return true
		}
	}
	return false
}

// tries returns the number of candidates. It is higher in a small prefix, where
// addresses collide more often.
func (id identity) tries() int {
	if id.prefix.Bits() > 112 {
		return 10
	}
	return maxTries
}

func (id identity) hashed(n, salt byte) netip.Addr {
	h := hmac.New(sha256.New, id.secret)
	h.Write([]byte("tnat64d CLAT address\x00"))
	p, bits := id.prefix.Masked().Addr().As16(), id.prefix.Bits()
	h.Write(p[:8])
	if bits != 64 {
		h.Write(p[8:])
		h.Write([]byte{byte(bits)})
	}
	h.Write([]byte{n, salt})
	h.Write([]byte(id.iface))
	sum := h.Sum(nil)

	if bits == 64 {
		a := p
		copy(a[8:14], sum)
		a[8] &^= 0x03 // universal/local and group bit
		binary.BigEndian.PutUint16(a[14:], id.neutral(a))
		return netip.AddrFrom16(a)
	}
	var a [16]byte
	copy(a[8:], sum)
	for i := range a {
		mask := byte(0xff) >> max(0, min(8, bits-8*i)) // of the identifier
		a[i] = p[i] | a[i]&mask
	}
	if bits <= 104 || bits <= 112 && n == 0 {
		binary.BigEndian.PutUint16(a[14:], id.neutral(a))
	}
	return netip.AddrFrom16(a)
}

// neutral returns the last 16 bits with which translation leaves the checksum of
// every transport protocol unchanged (RFC 6052 section 4.1). With a PREF64 of 40,
// 48, 56 or 64 bits it gives address a the sum of the IPv4 address.
func (id identity) neutral(a [16]byte) uint16 {
	p, err := siit.NewPrefix(id.pref64)
	if err != nil {
		return binary.BigEndian.Uint16(a[14:]) // no translator would take this prefix
	}
	return p.NeutralWord(siit.Pair{IPv4: id.ipv4, IPv6: netip.AddrFrom16(a)})
}

// reserved reports whether a is the subnet-router anycast address (RFC 4291
// section 2.6.1) or, in a prefix longer than /64, one of the subnet anycast
// addresses of RFC 2526. In a prefix longer than /112 it reserves only the anycast
// address that RFC 2526 assigns, because all of them would be half of the prefix.
func (id identity) reserved(a netip.Addr) bool {
	if a == id.prefix.Masked().Addr() {
		return true
	}
	bits := id.prefix.Bits()
	if bits <= 64 {
		return false
	}
	b := a.As16()
	if bits > 112 {
		return b[15]&0x7f == mobileHomeAgents && onesBetween(b, bits, 121)
	}
	return onesBetween(b, bits, 121)
}

// mobileHomeAgents is the anycast identifier of RFC 2526 section 4.
const mobileHomeAgents = 0x7e

// onesBetween reports whether the bits from..to-1 of b are all set.
func onesBetween(b [16]byte, from, to int) bool {
	for i := from; i < to; i++ {
		if b[i/8]&(0x80>>(i%8)) == 0 {
			return false
		}
	}
	return true
}
