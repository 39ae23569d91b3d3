package engine

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"

	"tnat64d/siit"
)

const (
	ipv4Len = 20
	ipv6Len = 40
	udpLen  = 8
	tcpLen  = 20

	protocolICMP = 1
	protocolTCP  = 6
	protocolUDP  = 17

	protocolFragment = 44
)

// segment is a translated TCP or UDP packet taken apart. Offsets count from the
// IP header, which has no options and no extension headers.
type segment struct {
	p      siit.Packet
	tcp    bool
	l4     int // offset of the transport header
	data   int // offset of the payload
	size   int // of the payload in bytes
	joins  bool
	last   bool   // PSH: nothing can follow in the same super-packet
	seq    uint32 // of TCP
	hash   uint64 // of addresses and ports
	summed bool   // the checksum is partial or known to be right
}

// parseSegment takes p apart. ok is false if p is something other than whole TCP
// or UDP, so that its flow cannot be told. s.joins says whether p may become
// part of a super-packet.
func parseSegment(p siit.Packet, seed maphash.Seed) (s segment, ok bool) {
	b := p.Bytes()
	if len(b) < ipv4Len+udpLen {
		return s, false
	}
	var protocol byte
	if b[0]>>4 == 6 {
		if len(b) < ipv6Len+udpLen {
			return s, false
		}
		protocol, s.l4 = b[6], ipv6Len
	} else {
		if b[0] != 0x45 || b[6]&^0x40 != 0 || b[7] != 0 { // a fragment
			return s, false
		}
		protocol, s.l4 = b[9], ipv4Len
	}
	if protocol != protocolTCP && protocol != protocolUDP {
		return s, false
	}
	s.p, s.tcp = p, protocol == protocolTCP
	s.hash = maphash.Bytes(seed, s.endpoints())
	if p.GSOType == siit.GSONone {
		if s.tcp {
			s.parseTCP(b)
		} else {
			s.parseUDP(b)
		}
	}
	return s, true
}

func (s *segment) parseUDP(b []byte) {
	s.data = s.l4 + udpLen
	s.size = len(b) - s.data
	s.joins = s.size > 0 && int(binary.BigEndian.Uint16(b[s.l4+4:])) == len(b)-s.l4
}

// parseTCP lets nothing join but data with no flag other than ACK and PSH.
func (s *segment) parseTCP(b []byte) {
	const ack, psh = 0x10, 0x08
	if len(b) < s.l4+tcpLen {
		return
	}
	s.data = s.l4 + int(b[s.l4+12]>>4)*4
	s.size = len(b) - s.data
	flags := b[s.l4+13]
	s.seq = binary.BigEndian.Uint32(b[s.l4+4:])
	s.last = flags&psh != 0
	s.joins = s.data >= s.l4+tcpLen && s.size > 0 && flags&^psh == ack
}

// endpoints returns addresses and ports as they stand in the packet.
func (s *segment) endpoints() []byte {
	b := s.p.Bytes()
	if s.l4 == ipv6Len {
		return b[8 : ipv6Len+4]
	}
	return b[12 : ipv4Len+4]
}

// sameFlow reports whether both have the same protocol, addresses and ports.
func (s *segment) sameFlow(o *segment) bool {
	return s.hash == o.hash && s.tcp == o.tcp && s.l4 == o.l4 && bytes.Equal(s.endpoints(), o.endpoints())
}

// sameHeaders reports whether two segments of one flow differ in nothing but
// what the kernel makes anew for each segment of a super-packet: lengths,
// checksums, IPv4 identification, sequence number and PSH.
func (s *segment) sameHeaders(o *segment) bool {
	x, y := s.p.Bytes(), o.p.Bytes()
	if s.data != o.data {
		return false
	}
	if s.l4 == ipv6Len {
		if binary.BigEndian.Uint32(x) != binary.BigEndian.Uint32(y) || x[7] != y[7] {
			return false
		}
	} else if x[1] != y[1] || x[6] != y[6] || x[8] != y[8] {
		return false
	}
	if !s.tcp {
		return true
	}
	x, y = x[s.l4:s.data], y[s.l4:s.data]
	return binary.BigEndian.Uint32(x[8:]) == binary.BigEndian.Uint32(y[8:]) && // acknowledgement number
		x[12] == y[12] && bytes.Equal(x[14:16], y[14:16]) && // data offset, window
		bytes.Equal(x[18:], y[18:]) // urgent pointer, options
}

// pseudoSum returns the sum of the pseudo-header for n bytes of transport header
// and payload.
func (s *segment) pseudoSum(n int) uint16 {
	b := s.p.Bytes()
	tail := [4]byte{0, protocolUDP}
	if s.tcp {
		tail[1] = protocolTCP
	}
	binary.BigEndian.PutUint16(tail[2:], uint16(n)) // n fits: no packet is longer
	sum := siit.Sum(tail[:], 0)
	if s.l4 == ipv6Len {
		return siit.Sum(b[8:ipv6Len], sum)
	}
	return siit.Sum(b[12:ipv4Len], sum)
}

// checked reports whether the transport checksum is right, or left to be
// computed. A super-packet gets new checksums, which must not cover up a wrong
// one.
func (s *segment) checked() bool {
	if s.summed || s.p.Flags&(siit.NeedsCsum|siit.DataValid) != 0 {
		return true
	}
	b := s.p.Bytes()
	if !s.tcp && b[s.l4+6]|b[s.l4+7] == 0 { // there is none
		return false
	}
	s.summed = siit.Sum(b[s.l4:], s.pseudoSum(len(b)-s.l4)) == 0xffff
	return s.summed
}
