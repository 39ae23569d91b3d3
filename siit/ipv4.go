package siit

import "encoding/binary"

// Protocol numbers that translation has to know.
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoIGMP     = 2
	protoTCP      = 6
	protoUDP      = 17
	protoDCCP     = 33
	protoRouting  = 43
	protoFragment = 44
	protoESP      = 50
	protoAH       = 51
	protoICMPv6   = 58
	protoDestOpts = 60
	protoMobility = 135
	protoHIP      = 139
	protoShim6    = 140
	protoUDPLite  = 136
)

const (
	ipv4Len     = 20 // header without options
	ipv6Len     = 40
	fragmentLen = 8 // Fragment Header
	icmpLen     = 8
)

// header4 is an IPv4 packet taken apart.
type header4 struct {
	b        []byte // the packet, cut to Total Length
	ihl      int    // bytes
	proto    uint8
	df, more bool
	fragOff  int // bytes
	src, dst uint32

	icmpError bool   // ICMP of an error type
	quotedDst uint32 // destination of the packet an ICMP error quotes, if it is all there
}

// isFragment reports whether the packet is a fragment, first ones included.
func (h *header4) isFragment() bool { return h.more || h.fragOff != 0 }

// payload returns what follows the IPv4 header.
func (h *header4) payload() []byte { return h.b[h.ihl:] }

// parse4 checks an IPv4 header (RFC 1812 section 5.2.2).
func parse4(b []byte) (h header4, r Reason) {
	if len(b) < ipv4Len {
		return h, Truncated
	}
	h.ihl = int(b[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if h.ihl < ipv4Len || total < h.ihl {
		return h, BadIPv4Header
	}
	if total > len(b) {
		return h, Truncated
	}
	h.b = b[:total]
	check := headerSum20(b)
	if h.ihl > ipv4Len {
		check = sum(b[ipv4Len:h.ihl], check)
	}
	if check != 0xffff {
		return h, BadIPv4Checksum
	}
	frag := binary.BigEndian.Uint16(b[6:])
	h.df, h.more, h.fragOff = frag&0x4000 != 0, frag&0x2000 != 0, int(frag&0x1fff)*8
	h.proto = b[9]
	h.src, h.dst = binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:])
	n := total - h.ihl
	if h.isFragment() && (h.fragOff+n > 65535-ipv4Len || h.more && n%8 != 0) {
		return h, BadFragment
	}
	if h.proto == protoICMP && h.fragOff == 0 && n > 0 {
		h.icmpError = isError4(b[h.ihl])
		if quote := h.ihl + icmpLen; h.icmpError && total >= quote+ipv4Len {
			h.quotedDst = binary.BigEndian.Uint32(b[quote+16:])
		}
	}
	return h, None
}

// from4 translates an IPv4 packet (RFC 7915 section 4).
func (t *Translator) from4(s *Scratch, p Packet, turned bool) (Verdict, Reason) {
	h, r := parse4(p.Bytes())
	if r != None {
		return Drop, r
	}
	var o offload
	if p.Offload != (Offload{}) {
		if o, r = checkOffload(p.Offload, h.b, h.ihl, h.proto, h.isFragment(), GSOTCPv4); r != None {
			return Drop, r
		}
	}
	var addrs [32]byte
	neutral, r := t.addresses6(addrs[:], &h)
	if r != None {
		return Drop, r
	}
	if h.ihl > ipv4Len && sourceRouted(h.b[ipv4Len:h.ihl]) {
		return t.reply4(s, &h, &o, SourceRoute, 3, 5, 0)
	}
	ttl := h.b[8]
	if !turned {
		if ttl <= 1 {
			return t.reply4(s, &h, &o, TTLExceeded, 11, 0, 0)
		}
		ttl--
	}
	if a := t.routes.action(addrs[16:]); a != RouteForward {
		return t.rejected4(s, &h, &o, a)
	}

	switch h.proto {
	case protoICMP:
		if h.isFragment() {
			return Drop, FragmentedICMP
		}
		if h.icmpError {
			return t.icmpError4(s, &h, &o, &addrs, ttl)
		}
	case protoIGMP:
		return Drop, IGMP
	case protoHopByHop, protoRouting, protoFragment, protoICMPv6, protoDestOpts:
		return Drop, ProtocolOfOtherFamily
	}
	next := h.proto
	var icmp icmpHeader
	if next == protoICMP {
		next = protoICMPv6
		if icmp, r = echo4(h.payload(), &o, addrs[:]); r != None {
			return Drop, r
		}
	}
	field, r := checksumField(h.payload(), h.proto, h.fragOff)
	if r != None {
		return Drop, r
	}
	computeUDP := false
	if h.proto == protoUDP && field != 0 && !o.partial && isZero(h.payload()[field:]) {
		switch {
		case t.dropZeroChecksum:
			return Drop, UDPZeroChecksum
		case h.more:
			return Drop, UDPZeroChecksumFragment
		case int(binary.BigEndian.Uint16(h.payload()[4:])) > len(h.payload()),
			binary.BigEndian.Uint16(h.payload()[4:]) < 8:
			return Drop, Truncated
		}
		if o.segments {
			return t.segment(s, h.b, h.ihl, o, turned) // each needs its own
		}
		computeUDP = true
	}

	// Size. A super-packet stands for segments, and the rules are about those.
	n := len(h.b) - h.ihl
	if o.segments {
		n = min(n, o.header+o.size)
	}
	grow := ipv6Len
	if h.isFragment() {
		grow += fragmentLen
	}
	split := false
	if h.df {
		if n+grow > t.mtu6 {
			return t.reply4(s, &h, &o, TooBig, 3, 4, uint32(t.mtu6-grow+ipv4Len))
		}
	} else if split = n+grow > t.limit6; split && o.segments {
		return t.segment(s, h.b, h.ihl, o, turned)
	}

	// From here on nothing can be refused, and the packet may be changed.
	payload := h.payload()
	if o.foreign {
		complete(h.b, int(p.CsumStart), int(p.CsumOffset))
	}
	switch {
	case next == protoICMPv6:
		icmp.put(payload)
	case computeUDP:
		udpLen := int(binary.BigEndian.Uint16(payload[4:]))
		c := payload[6:8]
		binary.BigEndian.PutUint16(c, ^sum(payload[:udpLen], pseudo6(addrs[:], udpLen, protoUDP)))
		neverZero(c)
	case field != 0 && !neutral:
		d := delta(sum8(h.b[12:]), add(sum16(addrs[:]), sum16(addrs[16:])))
		o.update(payload[field:], h.proto, d)
	}
	tos := h.b[1]
	if t.ignoreTOS {
		tos = 0
	}
	id := binary.BigEndian.Uint16(h.b[4:])
	if split {
		if o.partial {
			complete(payload, 0, field)
		}
		return t.split6(s, payload, &addrs, tos, next, ttl, id, h.fragOff, h.more)
	}
	at := p.Off + h.ihl - grow
	out := p.Buf[at : p.Off+len(h.b)]
	putIPv6(out, tos, len(out)-ipv6Len, next, ttl, addrs[:])
	if h.isFragment() {
		out[6] = protoFragment
		putFragmentHeader(out[ipv6Len:], next, h.fragOff, h.more, id)
	}
	q := Packet{Buf: p.Buf[:p.Off+len(h.b)], Off: at, Offload: o.shift(p.Offload, grow, GSOTCPv6)}
	if !s.emit(q) {
		return Drop, TooManyFragments
	}
	return Translated, None
}

// putIPv6 writes an IPv6 header without flow label to b.
func putIPv6(b []byte, tc uint8, length int, next, hopLimit uint8, addrs []byte) {
	_ = b[ipv6Len-1]
	b[0], b[1], b[2], b[3] = 0x60|tc>>4, tc<<4, 0, 0
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	b[6], b[7] = next, hopLimit
	copy(b[8:40], addrs)
}

// putFragmentHeader writes a Fragment Header to b; offset counts bytes.
func putFragmentHeader(b []byte, next uint8, offset int, more bool, id uint16) {
	_ = b[fragmentLen-1]
	b[0], b[1] = next, 0
	v := uint16(offset)
	if more {
		v |= 1
	}
	binary.BigEndian.PutUint16(b[2:], v)
	binary.BigEndian.PutUint32(b[4:], uint32(id))
}

// sourceRouted reports whether IPv4 options hold a source route that has not
// run out (RFC 7915 section 4.1). Options that cannot be read are no reason to
// refuse a packet, as they are removed.
func sourceRouted(options []byte) bool {
	for len(options) > 0 {
		switch options[0] {
		case 0: // end of the list
			return false
		case 1: // no operation
			options = options[1:]
			continue
		}
		if len(options) < 3 || options[1] < 2 || int(options[1]) > len(options) {
			return false
		}
		length, pointer := options[1], options[2]
		if (options[0] == 131 || options[0] == 137) && pointer <= length {
			return true
		}
		options = options[length:]
	}
	return false
}

// checksumField returns where in the payload of an IP packet the transport
// checksum stands that covers the addresses, or 0 when there is none that we
// know of, as in later fragments.
func checksumField(payload []byte, proto uint8, fragOff int) (int, Reason) {
	if fragOff != 0 {
		return 0, None
	}
	var field, header int
	switch proto {
	case protoTCP:
		field, header = 16, 20
	case protoUDP, protoUDPLite:
		field, header = 6, 8
	case protoDCCP:
		field, header = 6, 12
	default:
		return 0, None
	}
	if len(payload) < header {
		return 0, Truncated
	}
	return field, None
}

func isZero(field []byte) bool { return field[0]|field[1] == 0 }
