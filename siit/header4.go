package siit

import "encoding/binary"

const ipv4Len = 20 // IPv4 header without options, in bytes

// header4 is an IPv4 packet taken apart.
type header4 struct {
	b        []byte // the packet, cut to Total Length
	ihl      int    // bytes
	proto    uint8
	df, more bool
	fragOff  int // bytes
	src, dst uint32

	icmpError bool   // ICMP of an error type
	quotedDst uint32 // destination of the packet that an ICMP error quotes, if all of it is there
}

// isFragment reports whether the packet is a fragment, first ones included.
func (h *header4) isFragment() bool { return h.more || h.fragOff != 0 }

// payload returns what follows the IPv4 header.
func (h *header4) payload() []byte { return h.b[h.ihl:] }

func (h *header4) id() uint16 { return binary.BigEndian.Uint16(h.b[4:]) }

// parse checks the IPv4 header at the start of b (RFC 1812 section 5.2.2) and
// fills h in.
func (h *header4) parse(b []byte) Reason {
	if len(b) < ipv4Len {
		return Truncated
	}
	h.ihl = int(b[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if h.ihl < ipv4Len || total < h.ihl {
		return BadIPv4Header
	}
	if total > len(b) {
		return Truncated
	}
	h.b = b[:total]
	check := headerSum20(b)
	if h.ihl > ipv4Len {
		check = Sum(b[ipv4Len:h.ihl], check)
	}
	if check != 0xffff {
		return BadIPv4Checksum
	}
	frag := binary.BigEndian.Uint16(b[6:])
	h.df, h.more, h.fragOff = frag&0x4000 != 0, frag&0x2000 != 0, int(frag&0x1fff)*8
	h.proto = b[9]
	h.src, h.dst = binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:])
	n := total - h.ihl
	if h.isFragment() && (h.fragOff+n > 65535-ipv4Len || h.more && n%8 != 0) {
		return BadFragment
	}
	if h.proto == protoICMP && h.fragOff == 0 && n > 0 {
		h.icmpError = isError4(b[h.ihl])
		if quote := h.ihl + icmpLen; h.icmpError && total >= quote+ipv4Len {
			h.quotedDst = binary.BigEndian.Uint32(b[quote+16:])
		}
	}
	return None
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

// putIPv4 writes an IPv4 header without options to b, its checksum included.
// frag holds flags and fragment offset as they stand in the header.
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
