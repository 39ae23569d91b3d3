package siit

import (
	"encoding/binary"
	"net/netip"
)

// Header is what the header of an IP packet says, IPv6 extension headers
// included.
type Header struct {
	Version  uint8 // 4 or 6
	TTL      uint8 // Hop Limit in IPv6
	Protocol uint8 // of the upper layer, behind all extension headers
	Src, Dst netip.Addr
	Len      int // bytes in front of the upper layer, with IPv4 options and extension headers
	Total    int // bytes of the packet by its own account

	Fragment bool   // MF or an offset in IPv4, a Fragment Header in IPv6, even an atomic one (RFC 6946)
	More     bool   // further fragments follow
	Offset   int    // of the fragment's data in the original packet, in bytes
	ID       uint32 // identification; 16 bits in IPv4, 0 in IPv6 without Fragment Header
}

// ParseHeader reads the header of the IP packet at the start of b. The packet
// itself may be cut short, as in a capture or the quote of an ICMP error, but
// its headers must be complete. Lengths within the headers are checked,
// checksums are not.
//
// If the IPv4 header or the fixed IPv6 header is there but something behind it
// is wrong, ok is false and h says as much as could be read. If not even that is
// there, h.Version is 0.
func ParseHeader(b []byte) (h Header, ok bool) {
	switch {
	case len(b) >= ipv4Len && b[0]>>4 == 4:
		h = Header{
			Version: 4, TTL: b[8], Protocol: b[9],
			Src: netip.AddrFrom4([4]byte(b[12:16])), Dst: netip.AddrFrom4([4]byte(b[16:20])),
			Len: int(b[0]&0x0f) * 4, Total: int(binary.BigEndian.Uint16(b[2:])),
			ID: uint32(binary.BigEndian.Uint16(b[4:])),
		}
		frag := binary.BigEndian.Uint16(b[6:])
		h.More, h.Offset = frag&0x2000 != 0, int(frag&0x1fff)*8
		h.Fragment = h.More || h.Offset != 0
		return h, h.Len >= ipv4Len && h.Len <= len(b) && h.Len <= h.Total
	case len(b) >= ipv6Len && b[0]>>4 == 6:
		total := ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
		p := header6{b: b[:min(len(b), total)]}
		r := p.walk()
		return Header{
			Version: 6, TTL: b[7], Protocol: p.proto,
			Src: netip.AddrFrom16([16]byte(b[8:24])), Dst: netip.AddrFrom16([16]byte(b[24:40])),
			Len: p.l4, Total: total,
			Fragment: p.fragment, More: p.more, Offset: p.fragOff, ID: p.id,
		}, r == None || r == FragmentThenExtension
	}
	return h, false
}
