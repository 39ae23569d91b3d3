package engine

import (
	"encoding/binary"

	"tnat64d/siit"
)

// maxSegments is how many segments one super-packet has at most, as many as
// UDP_MAX_SEGMENTS of older kernels.
const maxSegments = 64

// train is a super-packet in the making: segments of one flow in order, all of
// one size but the last, which may be shorter.
type train struct {
	segment        // the first one; the payload of the others is appended to p.Buf
	buf     []byte // what p.Buf lies in
	count   int    // segments; 0: the train is free
	closed  bool   // nothing may follow
	next    uint32 // TCP sequence number that is due
}

// begin makes s, which lies in buf, the first segment.
func (t *train) begin(s segment, buf []byte) {
	*t = train{segment: s, buf: buf, count: 1, closed: !s.joins || s.last, next: s.seq + uint32(s.size)}
	t.p.Buf = buf[:len(s.p.Buf)]
}

// take appends s, which is of the same flow, and reports false if it must not
// be part of the super-packet.
func (t *train) take(s *segment) bool {
	switch {
	case t.closed, !s.joins, s.size > t.size, t.count == maxSegments:
		return false
	case len(t.p.Buf)+s.size > len(t.buf), len(t.p.Bytes())+s.size > 65535:
		return false
	case t.tcp && s.seq != t.next, !t.sameHeaders(s):
		return false
	case t.count == 1 && !t.checked(), !s.checked():
		return false
	}
	t.p.Buf = append(t.p.Buf, s.p.Bytes()[s.data:]...)
	t.count++
	t.next += uint32(s.size)
	t.last = t.last || s.last
	t.closed = s.last || s.size < t.size
	return true
}

// finish completes the headers and returns the packet. ids reserves IPv4
// identifications.
func (t *train) finish(ids *siit.Scratch) siit.Packet {
	if t.count == 1 {
		return t.p
	}
	b := t.p.Bytes()
	kind := siit.GSOUDPL4
	if t.l4 == ipv6Len {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6Len))
	} else {
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		// The kernel counts up from here. Segments of other flows have taken
		// the identifications between those of this one.
		binary.BigEndian.PutUint16(b[4:], ids.TakeIDs(t.count))
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^siit.Sum(b[:ipv4Len], 0))
	}
	field := 6
	transport := b[t.l4:]
	if t.tcp {
		field, kind = 16, siit.GSOTCPv6
		if t.l4 == ipv4Len {
			kind = siit.GSOTCPv4
		}
		if t.last {
			transport[13] |= 0x08
		}
	} else {
		binary.BigEndian.PutUint16(transport[4:], uint16(len(transport)))
	}
	binary.BigEndian.PutUint16(transport[field:], t.pseudoSum(len(transport)))
	t.p.Offload = siit.Offload{
		Flags: siit.NeedsCsum, GSOType: kind, HdrLen: uint16(t.data), GSOSize: uint16(t.size),
		CsumStart: uint16(t.l4), CsumOffset: uint16(field),
	}
	return t.p
}
