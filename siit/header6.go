package siit

import "encoding/binary"

const (
	ipv6Len     = 40 // IPv6 header, in bytes
	fragmentLen = 8  // Fragment Header

	// maxExtensions limits how many extension headers of a packet are read.
	maxExtensions = 8
)

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

// isFragment reports whether the packet is a part of another, which an atomic
// fragment is not (RFC 6946).
func (h *header6) isFragment() bool { return h.more || h.fragOff != 0 }

// tos returns the Traffic Class.
func (h *header6) tos() uint8 { return h.b[0]<<4 | h.b[1]>>4 }

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

// parse checks the IPv6 header at the start of b, finds the upper layer and
// fills h in.
func (h *header6) parse(b []byte) Reason {
	if len(b) < ipv6Len {
		return Truncated
	}
	total := ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return Truncated
	}
	h.b = b[:total]
	if r := h.walk(); r != None {
		return r
	}
	n := total - h.l4
	if h.fragment && (h.fragOff+n > 65535-ipv4Len || h.more && n%8 != 0) {
		return BadFragment
	}
	h.icmpError = h.proto == protoICMPv6 && h.fragOff == 0 && n > 0 && b[h.l4] < 128
	return None
}

// putIPv6 writes an IPv6 header without flow label to b; addrs are the 32 bytes
// of source and destination.
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
