package siit

import "encoding/binary"

// refusal says why a packet is refused, and which ICMP error answers it. The
// zero value is no refusal.
type refusal struct {
	reason   Reason
	answered bool
	head     icmpHead
}

// drop refuses a packet silently; with None it does not refuse it.
func drop(r Reason) refusal { return refusal{reason: r} }

// answer refuses a packet with an ICMP error of its IP version; word is the
// second word of the ICMP header.
func answer(r Reason, kind, code uint8, word uint32) refusal {
	return refusal{reason: r, answered: true, head: icmpHead{kind, code, word}}
}

// sources are the addresses from which the translator's own ICMP errors come.
type sources struct {
	ipv4    uint32
	ipv6    [16]byte
	hasIPv6 bool // or errors come from the destination of the packet
}

// ofGateway reports whether r is a gateway's rule: then ICMPv6 messages but errors
// are answered like any packet (RFC 4443 section 2.4 e), and ping shows why.
func ofGateway(r Reason) bool {
	switch r {
	case NoMap, DestinationDenied, NotAClient, PoolExhausted, TooManyMaps:
		return true
	}
	return false
}

// unreachableFor answers with Destination Unreachable and the code for a reason of
// addresses (RFC 4443 section 3.1).
func unreachableFor(r Reason) refusal {
	code := uint8(1) // administratively prohibited
	switch r {
	case NoMap, PoolExhausted, TooManyMaps:
		code = 3 // address unreachable
	case NotAClient:
		code = 5 // source address failed ingress policy
	}
	return answer(r, 1, code, 0)
}

// Refuse makes the answer to the IPv6 packet p, which Translate has refused
// because of its source, for the reason r that only the caller knows: NotAClient,
// PoolExhausted or TooManyMaps. Like Translate it leaves p as it was.
func (t *Translator) Refuse(s *Scratch, p Packet, r Reason) Result {
	s.reset()
	var c to4
	if uint(p.Off) >= uint(len(p.Buf)) || p.Buf[p.Off]>>4 != 6 {
		return Result{Reason: r}
	}
	if no := c.h.parse(p.Bytes()); no != None {
		return Result{Reason: no}
	}
	if v, _ := t.sources.refuse6(s, &c, unreachableFor(r)); v == Reply {
		return Result{Verdict: Reply, Reason: r, Packets: s.out}
	}
	return Result{Reason: r}
}

// refuse4 refuses an IPv4 packet: it makes the ICMPv4 error that goes back to the
// sender, unless there must be none (RFC 1812 section 4.3.2.7).
func (own *sources) refuse4(s *Scratch, c *to6, no refusal) (Verdict, Reason) {
	h, o := &c.h, &c.o
	if !no.answered || h.icmpError || h.fragOff != 0 || illegalSource4(h.src) {
		return Drop, no.reason
	}
	n := min(len(h.b), maxError4-ipv4Len-icmpLen)
	q := s.packet(ipv4Len + icmpLen + n)
	out := q.Bytes()
	quote := out[ipv4Len+icmpLen:]
	copy(quote, h.b)
	if first := h.ihl + o.header + o.size; o.segments && first < len(h.b) {
		// The wire would have seen segments, so quote the first of them.
		binary.BigEndian.PutUint16(quote[2:], uint16(first))
		updateComplete(quote[10:], delta(uint16(len(h.b)), uint16(first)))
	}
	putICMP(out[ipv4Len:], no.head, 0)
	// Precedence 6, internetwork control, as Linux has it (RFC 1812 section 4.3.2.5).
	putIPv4((*[ipv4Len]byte)(out), 0xc0, len(out), s.nextID(), 0, 64, protoICMP, own.ipv4, h.src)
	s.emit(q)
	return Reply, no.reason
}

// refuse6 refuses an IPv6 packet: it makes the ICMPv6 error that goes back to the
// sender, unless there must be none (RFC 4443 section 2.4 e; for codes without
// a rule of their own RFC 7915 section 5.4, which spares every ICMPv6 message).
func (own *sources) refuse6(s *Scratch, c *to4, no refusal) (Verdict, Reason) {
	const redirect = 137
	h := &c.h
	switch {
	case !no.answered, h.icmpError, illegalSource6(h.b[8:]):
		return Drop, no.reason
	case h.proto != protoICMPv6:
	case no.head.kind == 1 && !ofGateway(no.reason), h.fragOff != 0, h.l4 == len(h.b), h.b[h.l4] == redirect:
		return Drop, no.reason
	}
	n := min(len(h.b), maxError6-ipv6Len-icmpLen)
	q := s.packet(ipv6Len + icmpLen + n)
	out := q.Bytes()
	copy(out[ipv6Len+icmpLen:], h.b)
	var addrs [32]byte
	copy(addrs[:], h.b[24:40])
	if own.hasIPv6 {
		copy(addrs[:], own.ipv6[:])
	}
	copy(addrs[16:], h.b[8:24])
	putIPv6(out, 0, icmpLen+n, protoICMPv6, 64, addrs[:])
	putICMP(out[ipv6Len:], no.head, pseudo6(addrs[:], icmpLen+n, protoICMPv6))
	s.emit(q)
	return Reply, no.reason
}
