package siit

import "encoding/binary"

// maxExtensions bounds the walk along the extension headers of a packet.
const maxExtensions = 8

// header6 is an IPv6 packet taken apart.
type header6 struct {
	b     []byte // the packet, cut to Payload Length
	l4    int    // where the upper layer begins, behind all extension headers
	proto uint8  // upper-layer protocol

	fragment bool // there is a Fragment Header, maybe of an atomic fragment
	more     bool
	fragOff  int // bytes
	id       uint32

	routing   int  // offset of a non-zero Segments Left, or 0
	icmpError bool // ICMPv6 of an error type
}

func (h *header6) payload() []byte { return h.b[h.l4:] }

// walk follows the extension headers of h.b, which may be cut short as in the
// quote of an ICMP error (RFC 7915 section 5.1).
func (h *header6) walk() Reason {
	b := h.b
	h.proto, h.l4 = b[6], ipv6Len
	for range maxExtensions {
		switch h.proto {
		case protoHopByHop, protoRouting, protoDestOpts, protoFragment:
		default:
			return None
		}
		rest := b[h.l4:]
		if len(rest) < 8 {
			return BadIPv6Header
		}
		if h.proto == protoFragment {
			frag := binary.BigEndian.Uint16(rest[2:])
			h.fragment, h.more, h.fragOff = true, frag&1 != 0, int(frag&^7)
			h.id = binary.BigEndian.Uint32(rest[4:])
			h.proto = rest[0]
			h.l4 += fragmentLen
			switch h.proto {
			case protoHopByHop, protoRouting, protoFragment, protoDestOpts, protoAH, protoMobility, protoHIP, protoShim6:
				return FragmentThenExtension
			}
			return None
		}
		n := (int(rest[1]) + 1) * 8
		if n > len(rest) {
			return BadIPv6Header
		}
		if h.proto == protoRouting && rest[3] != 0 && h.routing == 0 {
			h.routing = h.l4 + 3
		}
		h.proto = rest[0]
		h.l4 += n
	}
	switch h.proto {
	case protoHopByHop, protoRouting, protoDestOpts, protoFragment:
		return ExtensionChainTooLong
	}
	return None
}

// parse6 checks an IPv6 header and finds the upper layer.
func parse6(b []byte) (h header6, r Reason) {
	if len(b) < ipv6Len {
		return h, Truncated
	}
	total := ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return h, Truncated
	}
	h.b = b[:total]
	if r := h.walk(); r != None {
		return h, r
	}
	n := total - h.l4
	if h.fragment && (h.fragOff+n > 65535-ipv4Len || h.more && n%8 != 0) {
		return h, BadFragment
	}
	h.icmpError = h.proto == protoICMPv6 && h.fragOff == 0 && n > 0 && b[h.l4] < 128
	return h, None
}

// mapped4 is what the addresses of an IPv6 packet became.
type mapped4 struct {
	src, dst  uint32
	fromDummy bool // the source has no IPv4 address, 192.0.0.8 stands for it
	dstBy     how
	neutral   bool
}

// from6 translates an IPv6 packet (RFC 7915 section 5).
func (t *Translator) from6(s *Scratch, p Packet) (Verdict, Reason) {
	h, r := parse6(p.Bytes())
	if r != None {
		return Drop, r
	}
	var o offload
	if p.Offload != (Offload{}) {
		if o, r = checkOffload(p.Offload, h.b, h.l4, h.proto, h.fragment, GSOTCPv6); r != None {
			return Drop, r
		}
	}
	a, r := t.addresses4(&h)
	switch r {
	case None:
	case SourceOutsidePREF64, DestinationUnmappable:
		return t.reply6(s, &h, r, 1, 1, 0)
	default:
		return Drop, r
	}
	if h.routing != 0 {
		return t.reply6(s, &h, RoutingHeader, 4, 0, uint32(h.routing))
	}
	if h.b[7] <= 1 {
		return t.reply6(s, &h, TTLExceeded, 3, 0, 0)
	}

	start := len(s.out)
	turn := t.m.hairpin == HairpinIntrinsic && a.dstBy == byPREF64 && t.m.eam.has4(a.dst)
	proto := h.proto
	var icmp icmpHeader
	switch proto {
	case protoICMPv6:
		if h.more || h.fragOff != 0 {
			return Drop, FragmentedICMP
		}
		if h.icmpError {
			v, r, turn := t.icmpError6(s, &h, &o, &a)
			if v == Translated && turn {
				return t.turnRound(s, start)
			}
			return v, r
		}
		proto = protoICMP
		if icmp, r = echo6(h.payload(), &o, h.b[8:40]); r != None {
			return Drop, r
		}
	case protoICMP:
		return Drop, ProtocolOfOtherFamily
	}
	field, r := checksumField(h.payload(), proto, h.fragOff)
	if r != None {
		return Drop, r
	}
	if proto == protoUDP && field != 0 && !o.partial && isZero(h.payload()[field:]) {
		return Drop, UDPZeroChecksumIPv6
	}

	// Size. DF says whether the IPv4 packet may be fragmented on its way: small
	// ones may, since the sender need not hear of an IPv6 MTU below 1280.
	n := len(h.b) - h.l4
	if o.segments {
		if n > 65535-ipv4Len {
			return t.segment(s, h.b, h.l4, o, false)
		}
		n = min(n, o.header+o.size)
	}
	df := !h.fragment && n+ipv4Len > minMTU6-ipv4Len
	split := n+ipv4Len > t.mtu4
	if split && df {
		return t.reply6(s, &h, TooBig, 2, 0, uint32(max(minMTU6, min(t.mtu6, t.mtu4+ipv4Len))))
	}
	if turn && df && n+ipv6Len > t.mtu6 {
		return t.reply6(s, &h, TooBig, 2, 0, uint32(t.mtu6)) // on the way back
	}
	if split && o.segments {
		return t.segment(s, h.b, h.l4, o, false)
	}

	// From here on nothing can be refused, and the packet may be changed.
	payload := h.payload()
	if o.foreign {
		complete(h.b, int(p.CsumStart), int(p.CsumOffset))
	}
	if proto == protoICMP {
		icmp.put(payload)
	} else if field != 0 && !a.neutral {
		d := delta(add(sum16(h.b[8:]), sum16(h.b[24:])), add(sum4(a.src), sum4(a.dst)))
		o.update(payload[field:], proto, d)
	}
	id := uint16(h.id)
	if !h.fragment {
		id = s.nextID()
		if o.segments {
			s.id += uint16((len(payload) - o.header - 1) / o.size) // the other segments have theirs
		}
	}
	var head [ipv4Len]byte
	putIPv4(&head, t.tos6(&h), ipv4Len+len(payload), id, h.frag4(df), h.b[7]-1, proto, a.src, a.dst)
	if split {
		if o.partial {
			complete(payload, 0, field)
		}
		if v, r := t.split4(s, &head, payload); v != Translated {
			return v, r
		}
	} else {
		at := p.Off + h.l4 - ipv4Len
		copy(p.Buf[at:], head[:])
		q := Packet{Buf: p.Buf[:p.Off+len(h.b)], Off: at, Offload: o.shift(p.Offload, ipv4Len, GSOTCPv4)}
		if !s.emit(q) {
			return Drop, TooManyFragments
		}
	}
	if turn {
		return t.turnRound(s, start)
	}
	return Translated, None
}

// tos6 returns the TOS octet for h.
func (t *Translator) tos6(h *header6) uint8 {
	if t.ignoreTOS {
		return 0
	}
	return h.b[0]<<4 | h.b[1]>>4
}

// frag4 returns flags and fragment offset of the IPv4 header.
func (h *header6) frag4(df bool) uint16 {
	f := uint16(h.fragOff / 8)
	if h.more {
		f |= 0x2000
	}
	if df {
		f |= 0x4000
	}
	return f
}

// putIPv4 fills in an IPv4 header without options, its checksum included.
func putIPv4(b *[ipv4Len]byte, tos uint8, length int, id, frag uint16, ttl, proto uint8, src, dst uint32) {
	b[0], b[1] = 0x45, tos
	binary.BigEndian.PutUint16(b[2:], uint16(length))
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9] = ttl, proto
	binary.BigEndian.PutUint32(b[12:], src)
	binary.BigEndian.PutUint32(b[16:], dst)
	putChecksum4(b[:])
}

// putChecksum4 computes the checksum of the 20-byte IPv4 header at the start of b.
func putChecksum4(b []byte) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^headerSum20(b))
}

// turnRound translates what came out since start back to IPv6: intrinsic
// hairpinning, RFC 7757 section 4.2.2.
func (t *Translator) turnRound(s *Scratch, start int) (Verdict, Reason) {
	end := len(s.out)
	for i := start; i < end; i++ {
		if v, r := t.translate(s, s.out[i], true); v != Translated {
			// An error would be an IPv4 packet to an IPv6 sender.
			s.out = s.out[:start]
			return Drop, r
		}
	}
	n := copy(s.out[start:], s.out[end:])
	s.out = s.out[:start+n]
	return Translated, None
}
