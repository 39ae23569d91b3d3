package siit

import (
	"encoding/binary"
	"net/netip"
)

// Prefix is a PREF64 that is ready to embed IPv4 addresses in, and to extract
// them from (RFC 6052 section 2.2). The zero value is not valid; see
// [NewPrefix].
type Prefix struct{ p prefix64 }

// NewPrefix prepares p, a prefix of one of the lengths of RFC 6052 section 2.2.
func NewPrefix(p netip.Prefix) (Prefix, error) {
	q, err := newPrefix64(p)
	return Prefix{q}, err
}

// Embed returns the IPv6 address that stands for the IPv4 address a.
func (p Prefix) Embed(a netip.Addr) netip.Addr {
	var b [16]byte
	p.p.embed(b[:], v4(a))
	return netip.AddrFrom16(b)
}

// Extract returns the IPv4 address for which a stands. ok is false if a lies
// outside the prefix.
func (p Prefix) Extract(a netip.Addr) (v4 netip.Addr, ok bool) {
	b := a.As16()
	if !a.Is6() || !p.p.contains(b[:]) {
		return netip.Addr{}, false
	}
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], p.p.extract(b[:]))
	return netip.AddrFrom4(out), true
}
