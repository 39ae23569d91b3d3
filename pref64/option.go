package pref64

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// nextOption splits the first Neighbor Discovery option (RFC 4861 section 4.6)
// off b, which is not empty. The option includes its type and length and is a
// multiple of 8 bytes long.
func nextOption(b []byte) (opt, rest []byte, reason Reason) {
	if len(b) < 2 {
		return nil, nil, OptionTruncated
	}
	n := int(b[1]) * 8
	switch {
	case n == 0:
		return nil, nil, OptionLengthZero
	case n > len(b):
		return nil, nil, OptionTruncated
	}
	return b[:n], b[n:], None
}

// prefixLengths is the table of prefix length codes of RFC 8781 section 4.
var prefixLengths = [8]int{0: 96, 1: 64, 2: 56, 3: 48, 4: 40, 5: 32}

// parsePREF64 reads a PREF64 option (RFC 8781 section 4):
//
//	 0                   1                   2                   3
//	|     Type 38   |   Length 2    |     Scaled Lifetime     | PLC |
//	|            Prefix, bits 0 to 95                               |
func parsePREF64(opt []byte) (PREF64, Reason) {
	if len(opt) != 16 {
		return PREF64{}, BadLength
	}
	// The lifetime is in units of 8 s in the upper 13 bits, so clearing the
	// lower three gives seconds.
	word := binary.BigEndian.Uint16(opt[2:])
	bits := prefixLengths[word&7]
	if bits == 0 {
		return PREF64{}, BadPLC
	}
	var addr [16]byte
	copy(addr[:12], opt[4:])
	prefix, err := Check(netip.PrefixFrom(netip.AddrFrom16(addr), bits))
	if err != nil {
		return PREF64{}, BadPrefix
	}
	return PREF64{Prefix: prefix, Lifetime: time.Duration(word&^7) * time.Second}, None
}

// parsePrefixInfo reads a Prefix Information option (RFC 4861 section 4.6.2).
func parsePrefixInfo(opt []byte) (PrefixInfo, Reason) {
	if len(opt) != 32 {
		return PrefixInfo{}, BadLength
	}
	prefix, err := netip.AddrFrom16([16]byte(opt[16:])).Prefix(int(opt[2]))
	if err != nil {
		return PrefixInfo{}, BadPrefix
	}
	return PrefixInfo{
		Prefix:     prefix,
		OnLink:     opt[3]&0x80 != 0,
		Autonomous: opt[3]&0x40 != 0,
		Valid:      time.Duration(binary.BigEndian.Uint32(opt[4:])) * time.Second,
		Preferred:  time.Duration(binary.BigEndian.Uint32(opt[8:])) * time.Second,
	}, None
}

// parseMTU reads an MTU option (RFC 4861 section 4.6.4).
func parseMTU(opt []byte) (int, Reason) {
	if len(opt) != 8 {
		return 0, BadLength
	}
	mtu := binary.BigEndian.Uint32(opt[4:])
	if mtu < minMTU {
		return 0, BadMTU
	}
	return int(min(mtu, 1<<31-1)), None // int may have 32 bits
}

// parseRDNSS reads a Recursive DNS Server option (RFC 8106 section 5.1): eight
// bytes with the lifetime, then addresses.
func parseRDNSS(opt []byte) (RDNSS, Reason) {
	if len(opt) < 8+16 || (len(opt)-8)%16 != 0 {
		return RDNSS{}, BadLength
	}
	r := RDNSS{Lifetime: time.Duration(binary.BigEndian.Uint32(opt[4:])) * time.Second}
	for a := opt[8:]; len(a) > 0; a = a[16:] {
		r.Servers = append(r.Servers, netip.AddrFrom16([16]byte(a)))
	}
	return r, None
}
