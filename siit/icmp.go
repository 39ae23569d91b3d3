package siit

import "encoding/binary"

const icmpLen = 8 // ICMP header, in bytes

// icmpHeader is what changes in an echo message: its type and checksum.
type icmpHeader struct {
	kind  uint8
	check uint16
}

func (h *icmpHeader) put(m []byte) {
	m[0] = h.kind
	binary.BigEndian.PutUint16(m[2:], h.check)
}

// echo4 checks an ICMPv4 message that is no error and returns what becomes of
// its header; only echo has a counterpart (RFC 7915 section 4.2). The ICMPv6
// checksum covers a pseudo-header with addrs, source and destination.
func echo4(m []byte, o *offload, addrs []byte) (h icmpHeader, r Reason) {
	if len(m) < icmpLen {
		return h, Truncated
	}
	if h.kind = echoTo6(m[0]); h.kind == 0 {
		return h, ICMPTypeUntranslatable
	}
	body := Sum(m[4:], 0)
	if !o.absent && add(add(body, binary.BigEndian.Uint16(m)), binary.BigEndian.Uint16(m[2:])) != 0xffff {
		return h, BadICMPChecksum
	}
	body = add(body, uint16(h.kind)<<8|uint16(m[1]))
	h.check = ^add(body, pseudo6(addrs, len(m), protoICMPv6))
	return h, None
}

// echo6 is echo4 for ICMPv6 (RFC 7915 section 5.2); addrs are those of the
// IPv6 header.
func echo6(m []byte, o *offload, addrs []byte) (h icmpHeader, r Reason) {
	if len(m) < icmpLen {
		return h, Truncated
	}
	kind, ok := echoTo4(m[0])
	if !ok {
		return h, ICMPTypeUntranslatable
	}
	h.kind = kind
	body := Sum(m[4:], 0)
	if !o.absent {
		all := add(add(body, binary.BigEndian.Uint16(m)), binary.BigEndian.Uint16(m[2:]))
		if add(all, pseudo6(addrs, len(m), protoICMPv6)) != 0xffff {
			return h, BadICMPChecksum
		}
	}
	h.check = ^add(body, uint16(h.kind)<<8|uint16(m[1]))
	return h, None
}

// echoTo6 maps the type of an ICMPv4 echo message; 0 means it is something else.
func echoTo6(kind uint8) uint8 {
	switch kind {
	case 8:
		return 128
	case 0:
		return 129
	}
	return 0
}

// echoTo4 maps the type of an ICMPv6 echo message.
func echoTo4(kind uint8) (uint8, bool) {
	switch kind {
	case 128:
		return 8, true
	case 129:
		return 0, true
	}
	return 0, false
}

// isError4 reports whether an ICMPv4 type is an error message (RFC 1122 section 3.2.2).
func isError4(kind uint8) bool {
	switch kind {
	case 3, 4, 5, 11, 12:
		return true
	}
	return false
}

// icmpHead is type, code and the second word of an ICMP message.
type icmpHead struct {
	kind, code uint8
	word       uint32
}

const no = 0xff // in a table below: has no counterpart

// unreachable4 maps the codes of ICMPv4 Destination Unreachable (RFC 7915
// section 4.2). Codes 2 and 4 become other types and are dealt with apart.
var unreachable4 = [...]uint8{
	0:  0,  // net
	1:  0,  // host
	2:  no, // protocol: Parameter Problem
	3:  4,  // port
	4:  no, // fragmentation needed: Packet Too Big
	5:  0,  // source route failed
	6:  0,  // destination network unknown
	7:  0,  // destination host unknown
	8:  0,  // source host isolated
	9:  1,  // network administratively prohibited
	10: 1,  // host administratively prohibited
	11: 0,  // network unreachable for TOS
	12: 0,  // host unreachable for TOS
	13: 1,  // communication administratively prohibited
	14: no, // host precedence violation
	15: 1,  // precedence cutoff in effect
}

// pointer4 maps the pointer of ICMPv4 Parameter Problem (RFC 7915 figure 3).
var pointer4 = [ipv4Len]uint8{
	0: 0,       // version, IHL
	1: 1,       // TOS
	2: 4, 3: 4, // total length
	4: no, 5: no, // identification
	6: no, 7: no, // flags, fragment offset
	8:  7,          // TTL
	9:  6,          // protocol
	10: no, 11: no, // checksum
	12: 8, 13: 8, 14: 8, 15: 8, // source
	16: 24, 17: 24, 18: 24, 19: 24, // destination
}

// plateaus are the path MTUs to guess from when a router did not tell (RFC 1191
// section 7.1); the ones below 1280 cannot be used.
var plateaus = [...]int{65535, 32000, 17914, 8166, 4352, 2002, 1492}

// error4 maps the header of an ICMPv4 error m, which quotes an IPv4 packet of
// quoted bytes (RFC 7915 section 4.2).
func (l *limits) error4(m []byte, quoted int) (e icmpHead, r Reason) {
	kind, code := m[0], m[1]
	switch {
	case kind == 3 && code == 2:
		return icmpHead{4, 1, 6}, None // pointer to Next Header
	case kind == 3 && code == 4:
		mtu := int(binary.BigEndian.Uint16(m[6:]))
		if mtu == 0 {
			for _, p := range plateaus {
				if p < quoted {
					mtu = p
					break
				}
			}
		}
		return icmpHead{2, 0, uint32(max(minMTU6, min(mtu+20, l.mtu6, l.mtu4+20)))}, None
	case kind == 3 && int(code) < len(unreachable4) && unreachable4[code] != no:
		return icmpHead{1, unreachable4[code], 0}, None
	case kind == 11:
		return icmpHead{3, code, 0}, None
	case kind == 12 && (code == 0 || code == 2):
		if p := int(m[4]); p < len(pointer4) && pointer4[p] != no {
			return icmpHead{4, 0, uint32(pointer4[p])}, None
		}
		return e, ICMPParameterUntranslatable
	}
	return e, ICMPTypeUntranslatable
}

// pointer6 maps the pointer of ICMPv6 Parameter Problem (RFC 7915 figure 6).
func pointer6(p uint32) uint8 {
	switch {
	case p <= 1: // version, Traffic Class
		return uint8(p)
	case p == 4 || p == 5: // Payload Length
		return 2
	case p == 6: // Next Header
		return 9
	case p == 7: // Hop Limit
		return 8
	case p >= 8 && p < 24: // source
		return 12
	case p >= 24 && p < 40: // destination
		return 16
	}
	return no // Flow Label, or behind the header
}

// unreachable6 maps the codes of ICMPv6 Destination Unreachable (RFC 7915 section 5.2).
var unreachable6 = [...]uint8{
	0: 1,  // no route
	1: 10, // administratively prohibited
	2: 1,  // beyond scope of source address
	3: 1,  // address unreachable
	4: 3,  // port unreachable
}

// error6 maps the header of an ICMPv6 error m; fragment says whether the
// packet it quotes has a Fragment Header (RFC 7915 section 5.2).
func (l *limits) error6(m []byte, fragment bool) (e icmpHead, r Reason) {
	kind, code := m[0], m[1]
	word := binary.BigEndian.Uint32(m[4:])
	switch {
	case kind == 1 && int(code) < len(unreachable6):
		return icmpHead{3, unreachable6[code], 0}, None
	case kind == 2:
		if word < minMTU6 {
			return e, ICMPErrorMTUTooSmall
		}
		less := uint32(ipv6Len - ipv4Len)
		if fragment {
			less += fragmentLen
		}
		return icmpHead{3, 4, min(word-less, uint32(l.mtu4), uint32(l.mtu6-20))}, None
	case kind == 3: // the code is unchanged, whatever it is
		return icmpHead{11, code, 0}, None
	case kind == 4 && code == 0:
		if p := pointer6(word); p != no {
			return icmpHead{12, 0, uint32(p) << 24}, None
		}
		return e, ICMPParameterUntranslatable
	case kind == 4 && code == 1:
		return icmpHead{3, 2, 0}, None
	}
	return e, ICMPTypeUntranslatable
}
