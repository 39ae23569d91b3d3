package siit

import "encoding/binary"

// offload is an Offload that has been checked against its packet.
type offload struct {
	partial  bool // the transport checksum is the pseudo-header sum
	absent   bool // the ICMP checksum has not been computed yet
	foreign  bool // some other checksum, inside a tunnel say, is left to be completed
	segments bool // a super-packet
	header   int  // bytes of the transport header, of a super-packet
	size     int  // payload bytes per segment
}

// checkOffload compares o with the packet b, whose transport header of
// protocol proto begins at l4. tcpType is the GSO type of TCP in its IP version.
func checkOffload(o Offload, b []byte, l4 int, proto uint8, fragment bool, tcpType uint8) (c offload, r Reason) {
	payload := b[l4:]
	if kind := o.GSOType &^ GSOECN; kind != GSONone {
		switch {
		case kind == tcpType && proto == protoTCP:
			if len(payload) < 20 {
				return c, BadOffload
			}
			if c.header = int(payload[12]>>4) * 4; c.header < 20 {
				return c, BadOffload
			}
		case o.GSOType == GSOUDPL4 && proto == protoUDP:
			c.header = 8
		default:
			return c, BadOffload
		}
		c.size = int(o.GSOSize)
		if fragment || c.size == 0 || c.header > len(payload) {
			return c, BadOffload
		}
		c.segments = len(payload) > c.header
	}
	if o.Flags&NeedsCsum == 0 {
		return c, None
	}
	start, offset := int(o.CsumStart), int(o.CsumOffset)
	if fragment || start < l4 || start+offset+2 > len(b) {
		return c, BadOffload
	}
	at := start == l4
	switch {
	case at && proto == protoTCP && offset == 16, at && proto == protoUDP && offset == 6:
		c.partial = true
	case proto == protoICMP || proto == protoICMPv6:
		if !at || offset != 2 {
			return c, BadOffload
		}
		c.absent = true
	case c.segments, proto == protoTCP && start < l4+20, proto == protoUDP && start < l4+8:
		return c, BadOffload // in the middle of the header that is to be rewritten
	default:
		c.foreign = true
	}
	return c, None
}

// update adjusts the transport checksum at the start of field for a change d
// of the addresses' sum.
func (c *offload) update(field []byte, proto uint8, d uint16) {
	if c.partial {
		updatePartial(field, d)
		return
	}
	updateComplete(field, d)
	if proto == protoUDP || proto == protoUDPLite {
		neverZero(field)
	}
}

// shift returns o for the translated packet, in which the transport header
// begins at byte l4.
func (c *offload) shift(o Offload, l4 int, tcpType uint8) Offload {
	q := Offload{Flags: o.Flags & DataValid}
	if c.partial {
		q.Flags |= NeedsCsum
		q.CsumStart, q.CsumOffset = uint16(l4), o.CsumOffset
	}
	if c.segments {
		q.GSOType, q.GSOSize = o.GSOType, o.GSOSize
		if o.GSOType&^GSOECN != GSOUDPL4 {
			q.GSOType = tcpType | o.GSOType&GSOECN
		}
		// Kernels give a wrong length for forwarded packets, so it is
		// computed rather than moved.
		q.HdrLen = uint16(l4 + c.header)
	}
	return q
}

// count returns how many segments the super-packet b stands for, whose transport
// header begins at byte l4.
func (o *offload) count(b []byte, l4 int) int { return (len(b) - l4 - o.header + o.size - 1) / o.size }

// segment returns segment i of the super-packet b as an ordinary packet with a
// complete checksum.
func (o *offload) segment(s *Scratch, b []byte, l4, i int) Packet {
	data := l4 + o.header
	done := i * o.size
	n := min(o.size, len(b)-data-done)
	q := s.packet(data + n)
	seg := q.Bytes()
	copy(seg, b[:data])
	copy(seg[data:], b[data+done:])
	o.putSegment(seg, l4, done, data+done+n == len(b))
	return q
}

// putSegment makes the headers in seg those of the segment whose payload
// begins done bytes into the super-packet's.
func (o *offload) putSegment(seg []byte, l4, done int, last bool) {
	var pseudo uint16
	index := done / o.size
	proto := seg[9]
	if seg[0]>>4 == 4 {
		binary.BigEndian.PutUint16(seg[2:], uint16(len(seg)))
		binary.BigEndian.PutUint16(seg[4:], binary.BigEndian.Uint16(seg[4:])+uint16(index))
		seg[10], seg[11] = 0, 0
		binary.BigEndian.PutUint16(seg[10:], ^Sum(seg[:l4], 0))
		pseudo = add(add(sum8(seg[12:]), uint16(len(seg)-l4)), uint16(proto))
	} else {
		proto = protoTCP
		if o.header == 8 {
			proto = protoUDP
		}
		binary.BigEndian.PutUint16(seg[4:], uint16(len(seg)-ipv6Len))
		pseudo = pseudo6(seg[8:], len(seg)-l4, proto)
	}
	l4h := seg[l4:]
	if proto == protoUDP {
		binary.BigEndian.PutUint16(l4h[4:], uint16(len(l4h)))
		l4h[6], l4h[7] = 0, 0
		binary.BigEndian.PutUint16(l4h[6:], ^Sum(l4h, pseudo))
		neverZero(l4h[6:])
		return
	}
	binary.BigEndian.PutUint32(l4h[4:], binary.BigEndian.Uint32(l4h[4:])+uint32(done))
	const fin, psh, cwr = 0x01, 0x08, 0x80
	if !last {
		l4h[13] &^= fin | psh
	}
	if index > 0 {
		l4h[13] &^= cwr
	}
	l4h[16], l4h[17] = 0, 0
	binary.BigEndian.PutUint16(l4h[16:], ^Sum(l4h, pseudo))
}
