package siit

import "encoding/binary"

// limits are the sizes, in bytes, that translated packets keep to.
type limits struct {
	mtu6, mtu4 int
	lowest6    int // size that DF=0 packets are fragmented to
}

// lowered returns l for a path with an IPv6 MTU of mtu6 bytes; 0: of any.
func (l limits) lowered(mtu6 int) limits {
	if mtu6 != 0 {
		l.mtu6 = min(l.mtu6, max(minMTU6, mtu6))
		l.lowest6 = min(l.lowest6, l.mtu6)
	}
	return l
}

// chunk6 returns how many bytes of payload an IPv6 fragment carries at most.
func (l *limits) chunk6() int { return (l.lowest6 - ipv6Len - fragmentLen) &^ 7 }

// chunk4 returns how many bytes of payload an IPv4 fragment carries at most.
func (l *limits) chunk4() int { return (l.mtu4 - ipv4Len) &^ 7 }

// split6 makes IPv6 fragments of payload, the complete translated upper-layer
// bytes of a packet that may be a fragment itself: fragOff is its offset and
// more its M bit (RFC 7915 section 4, RFC 8200 section 4.5). They leave in order.
func (l *limits) split6(s *Scratch, payload []byte, addrs *[32]byte, tc, next, hopLimit uint8, id uint16, fragOff int, more bool) {
	chunk := l.chunk6()
	for done := 0; done < len(payload); done += chunk {
		n := min(chunk, len(payload)-done)
		q := s.packet(ipv6Len + fragmentLen + n)
		out := q.Bytes()
		putIPv6(out, tc, fragmentLen+n, protoFragment, hopLimit, addrs[:])
		putFragmentHeader(out[ipv6Len:], next, fragOff+done, more || done+n < len(payload), id)
		copy(out[ipv6Len+fragmentLen:], payload[done:])
		s.emit(q)
	}
}

// split4 makes IPv4 fragments of payload that fit the IPv4 MTU. header is the
// complete header of the whole, which may be a fragment itself.
func (l *limits) split4(s *Scratch, header *[ipv4Len]byte, payload []byte) {
	frag := binary.BigEndian.Uint16(header[6:])
	chunk := l.chunk4()
	for done := 0; done < len(payload); done += chunk {
		n := min(chunk, len(payload)-done)
		q := s.packet(ipv4Len + n)
		out := q.Bytes()
		copy(out, header[:])
		copy(out[ipv4Len:], payload[done:])
		f := frag + uint16(done/8)
		if done+n < len(payload) {
			f |= 0x2000
		}
		binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
		binary.BigEndian.PutUint16(out[6:], f)
		putChecksum4(out)
		s.emit(q)
	}
}
