package engine

import (
	"encoding/binary"

	"tnat64d/siit"
)

// fragments joins consecutive IPv4 fragments of one datagram into a larger one,
// or into the whole. In front of the translation they are then split once and
// evenly (8 KB take 7 IPv6 packets, and 11 if each fragment is split by itself);
// behind it the kernel has less to reassemble, and cuts again what it forwards.
//
// Identification, TTL and TOS are the same in all that is joined, and DF is
// clear. What may overlap with fragments that have passed before is not joined.
type fragments struct {
	p     siit.Packet // the first one; the payload of the others is appended to p.Buf
	buf   []byte      // what p.Buf lies in
	count int         // fragments; 0: there is none
	start int         // offset of the first one, in bytes
	next  int         // offset that is due
	more  bool        // MF of the last one

	partials partials
}

const (
	moreFragments = 0x2000
	minFirst      = 64 // bytes of payload; siit is to judge shorter first fragments
)

// joinable returns the offset in bytes and MF of an IPv4 fragment that may be
// joined with others.
func joinable(p *siit.Packet) (off int, more, ok bool) {
	b := p.Bytes()
	if len(b) <= ipv4Len || b[0] != 0x45 || b[6]&0xc0 != 0 || binary.BigEndian.Uint16(b[6:]) == 0 || b[9] == protocolICMP {
		return 0, false, false
	}
	flags := binary.BigEndian.Uint16(b[6:])
	off, more = int(flags&0x1fff)*8, flags&moreFragments != 0
	n := len(b) - ipv4Len
	switch {
	case int(binary.BigEndian.Uint16(b[2:])) != len(b), siit.Sum(b[:ipv4Len], 0) != 0xffff:
	case p.Offload.Flags&^siit.DataValid != 0, p.Offload.GSOType != siit.GSONone:
	case off+n > 65535-ipv4Len, more && n%8 != 0:
	case off == 0 && n < minFirst:
	case off == 0 && b[9] == protocolUDP && b[ipv4Len+6]|b[ipv4Len+7] == 0: // no checksum: see RFC 7915 section 4.5
	default:
		return off, more, true
	}
	return 0, false, false
}

// take appends p, if it is the fragment that is due.
func (f *fragments) take(p *siit.Packet) bool {
	if f.count == 0 || !f.more {
		return false
	}
	off, more, ok := joinable(p)
	if !ok || off != f.next {
		return false
	}
	x, y := f.p.Bytes(), p.Bytes()
	if x[1] != y[1] || string(x[4:6]) != string(y[4:6]) || string(x[8:10]) != string(y[8:10]) || string(x[12:20]) != string(y[12:20]) {
		return false
	}
	if len(x)+len(y)-ipv4Len > 65535 || len(f.p.Buf)+len(y) > len(f.buf) {
		return false
	}
	if f.start < f.partials.end(y) {
		return false
	}
	f.p.Buf = append(f.p.Buf, y[ipv4Len:]...)
	f.count++
	f.next += len(y) - ipv4Len
	f.more = more
	return true
}

// begin starts with p, which lies in buf, if others may follow it. It keeps buf
// and returns another in its place.
func (f *fragments) begin(p siit.Packet, buf []byte) (instead []byte, ok bool) {
	off, more, ok := joinable(&p)
	if !ok || !more {
		if b := p.Bytes(); len(b) >= ipv4Len && b[0]>>4 == 4 && b[9] != protocolICMP && isFragment(b) {
			f.partials.add(b)
		}
		return buf, false
	}
	instead = f.buf
	f.p, f.buf, f.count, f.start, f.next, f.more = p, buf, 1, off, off+len(p.Bytes())-ipv4Len, more
	f.p.Buf = buf[:len(p.Buf)]
	return instead, true
}

// end returns what was joined, of how many fragments. The packet lies in f.buf.
func (f *fragments) end() (p siit.Packet, count int) {
	p, count = f.p, f.count
	f.count = 0
	b := p.Bytes()
	if f.more || f.start > 0 {
		f.partials.add(b)
	}
	if count == 1 {
		return p, 1
	}
	flags := binary.BigEndian.Uint16(b[6:]) &^ moreFragments
	if f.more {
		flags |= moreFragments
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[6:], flags)
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^siit.Sum(b[:ipv4Len], 0))
	p.Offload = siit.Offload{}
	return p, count
}
