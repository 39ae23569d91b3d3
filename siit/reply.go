package siit

import "encoding/binary"

// reply4 makes the ICMPv4 error about h that goes back to its sender, unless
// there must be none (RFC 1812 section 4.3.2.7). word is the second word of the
// ICMP header.
func (t *Translator) reply4(s *Scratch, h *header4, o *offload, r Reason, kind, code uint8, word uint32) (Verdict, Reason) {
	if t.noErrors || h.icmpError || h.fragOff != 0 || illegalSource4(h.src) {
		return Drop, r
	}
	n := min(len(h.b), maxError4-ipv4Len-icmpLen)
	q := s.packet(ipv4Len + icmpLen + n)
	if q.Buf == nil {
		return Drop, r
	}
	out := q.Bytes()
	quote := out[ipv4Len+icmpLen:]
	copy(quote, h.b)
	if first := h.ihl + o.header + o.size; o.segments && first < len(h.b) {
		// The wire would have seen segments, so quote the first of them.
		binary.BigEndian.PutUint16(quote[2:], uint16(first))
		updateComplete(quote[10:], delta(uint16(len(h.b)), uint16(first)))
	}
	putICMP(out[ipv4Len:], icmpHead{kind, code, word}, 0)
	// Precedence 6, internetwork control, as Linux has it (RFC 1812 section 4.3.2.5).
	putIPv4((*[ipv4Len]byte)(out), 0xc0, len(out), s.nextID(), 0, 64, protoICMP, t.icmpSrc4, h.src)
	return t.reply(s, q, r)
}

// reply6 makes the ICMPv6 error about h that goes back to its sender, unless
// there must be none (RFC 4443 section 2.4 e; for codes without a rule of
// their own RFC 7915 section 5.4, which spares every ICMPv6 message).
func (t *Translator) reply6(s *Scratch, h *header6, r Reason, kind, code uint8, word uint32) (Verdict, Reason) {
	const redirect = 137
	switch {
	case t.noErrors, h.icmpError, illegalSource6(h.b[8:]):
		return Drop, r
	case h.proto != protoICMPv6:
	case kind == 1, h.fragOff != 0, h.l4 == len(h.b), h.b[h.l4] == redirect:
		return Drop, r
	}
	n := min(len(h.b), maxError6-ipv6Len-icmpLen)
	q := s.packet(ipv6Len + icmpLen + n)
	if q.Buf == nil {
		return Drop, r
	}
	out := q.Bytes()
	copy(out[ipv6Len+icmpLen:], h.b)
	var addrs [32]byte
	copy(addrs[:], h.b[24:40])
	if t.hasICMPSrc6 {
		copy(addrs[:], t.icmpSrc6[:])
	}
	copy(addrs[16:], h.b[8:24])
	putIPv6(out, 0, icmpLen+n, protoICMPv6, 64, addrs[:])
	putICMP(out[ipv6Len:], icmpHead{kind, code, word}, pseudo6(addrs[:], icmpLen+n, protoICMPv6))
	return t.reply(s, q, r)
}

// reply makes q the only packet that comes out.
func (t *Translator) reply(s *Scratch, q Packet, r Reason) (Verdict, Reason) {
	s.out = s.out[:0]
	if !s.emit(q) {
		return Drop, r
	}
	return Reply, r
}
