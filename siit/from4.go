package siit

import "encoding/binary"

// to6 is an IPv4 packet that is to become IPv6, with what the checks have found
// out about it.
type to6 struct {
	h       header4
	o       offload
	addrs   [32]byte // source and destination in IPv6
	neutral bool     // their sum is that of the IPv4 addresses
	class   uint8    // Traffic Class
	next    uint8    // upper-layer protocol in IPv6
	field   int      // the transport checksum, from the start of the payload; 0: none
	compute bool     // a UDP checksum, as there is none
	limits  *limits  // of the route to the destination
	echo    icmpHeader

	grow  int  // bytes of IPv6 headers
	split bool // into fragments
	cut   bool // a super-packet into its segments
}

// from4 translates an IPv4 packet (RFC 7915 section 4).
func (t *Translator) from4(s *Scratch, p *Packet) (Verdict, Reason) {
	var c to6
	if no := t.check4(p, &c); no.reason != None {
		return t.sources.refuse4(s, &c, no)
	}
	if c.h.icmpError {
		return t.icmpError4(s, &c)
	}
	// From here on nothing is refused, and the packet may be changed.
	if c.cut {
		c.cutUp(s)
	} else {
		c.write(s, p)
	}
	return Translated, None
}

// check4 looks for reasons to refuse an IPv4 packet and fills c in. It changes
// nothing else. What an ICMP error quotes is not looked at.
func (t *Translator) check4(p *Packet, c *to6) refusal {
	h := &c.h
	r := h.parse(p.Bytes())
	if r != None {
		return drop(r)
	}
	c.class = h.b[1] & t.classMask
	if p.Offload != (Offload{}) {
		if c.o, r = checkOffload(p.Offload, h.b, h.ihl, h.proto, h.isFragment(), GSOTCPv4); r != None {
			return drop(r)
		}
	}
	switch c.neutral, r = t.mapping.addresses6(c.addrs[:], h); r {
	case None:
	case NoMap, NoPREF64:
		return answer(r, 3, 1, 0)
	default:
		return drop(r)
	}
	if h.ihl > ipv4Len && sourceRouted(h.b[ipv4Len:h.ihl]) {
		return answer(SourceRoute, 3, 5, 0)
	}
	if h.b[8] <= 1 {
		return answer(TTLExceeded, 11, 0, 0)
	}
	c.limits = &t.limits
	if r := t.routes.find(c.addrs[16:]); r != nil {
		if r.action != RouteForward {
			return r.action.refusal()
		}
		c.limits = &r.limits
	}
	switch h.proto {
	case protoICMP:
		if h.isFragment() {
			return drop(FragmentedICMP)
		}
		if h.icmpError {
			return refusal{}
		}
	case protoIGMP:
		return drop(IGMP)
	case protoHopByHop, protoRouting, protoFragment, protoICMPv6, protoDestOpts:
		return drop(ProtocolOfOtherFamily)
	}
	if r := c.checkTransport(t.dropZeroChecksum); r != None {
		return drop(r)
	}
	return c.checkSize()
}

// checkTransport checks the transport header. dropZero refuses UDP without a
// checksum.
func (c *to6) checkTransport(dropZero bool) (r Reason) {
	h := &c.h
	c.next = h.proto
	if h.proto == protoICMP {
		c.next = protoICMPv6
		c.echo, r = echo4(h.payload(), &c.o, c.addrs[:])
		return r
	}
	if c.field, r = checksumField(h.payload(), h.proto, h.fragOff); r != None {
		return r
	}
	if h.proto != protoUDP || c.field == 0 || c.o.partial || !isZero(h.payload()[c.field:]) {
		return None
	}
	// RFC 7915 section 4.5
	length := int(binary.BigEndian.Uint16(h.payload()[4:]))
	switch {
	case dropZero:
		return UDPZeroChecksum
	case h.more:
		return UDPZeroChecksumFragment
	case length > len(h.payload()), length < 8:
		return Truncated
	}
	c.compute, c.cut = true, c.o.segments // each segment needs its own
	return None
}

// checkSize decides whether the IPv6 packet has to be split. A super-packet
// stands for segments, and the rules are about those.
func (c *to6) checkSize() refusal {
	h, l := &c.h, c.limits
	n := len(h.payload())
	if c.o.segments {
		n = min(n, c.o.header+c.o.size)
	}
	c.grow = ipv6Len
	if h.isFragment() {
		c.grow += fragmentLen
	}
	if h.df {
		if n+c.grow > l.mtu6 {
			return answer(TooBig, 3, 4, uint32(l.mtu6-c.grow+ipv4Len))
		}
	} else if c.split = n+c.grow > l.lowest6; c.split && c.o.segments {
		c.cut = true
	}
	if c.cut && !fitsScratch(len(h.b), h.ihl+c.o.header, c.o.size, l.chunk6(), ipv6Len+fragmentLen) {
		return drop(TooManyFragments)
	}
	return refusal{}
}

// write writes the IPv6 form of p, which c describes.
func (c *to6) write(s *Scratch, p *Packet) {
	h := &c.h
	payload := h.payload()
	if c.o.foreign {
		complete(h.b, int(p.CsumStart), int(p.CsumOffset))
	}
	switch {
	case c.next == protoICMPv6:
		c.echo.put(payload)
	case c.compute:
		length := int(binary.BigEndian.Uint16(payload[4:]))
		field := payload[6:8]
		binary.BigEndian.PutUint16(field, ^Sum(payload[:length], pseudo6(c.addrs[:], length, protoUDP)))
		neverZero(field)
	case c.field != 0 && !c.neutral:
		d := delta(sum8(h.b[12:]), add(sum16(c.addrs[:]), sum16(c.addrs[16:])))
		c.o.update(payload[c.field:], h.proto, d)
	}
	ttl, id := h.b[8]-1, h.id()
	if c.split {
		if c.o.partial {
			complete(payload, 0, c.field)
		}
		c.limits.split6(s, payload, &c.addrs, c.class, c.next, ttl, id, h.fragOff, h.more)
		return
	}
	end := p.Off + len(h.b)
	at := p.Off + h.ihl - c.grow
	out := p.Buf[at:end]
	putIPv6(out, c.class, len(out)-ipv6Len, c.next, ttl, c.addrs[:])
	if h.isFragment() {
		out[6] = protoFragment
		putFragmentHeader(out[ipv6Len:], c.next, h.fragOff, h.more, id)
	}
	s.emit(Packet{Buf: p.Buf[:end], Off: at, Offload: c.o.shift(p.Offload, c.grow, GSOTCPv6)})
}

// cutUp cuts a super-packet, whose segments have to be treated one by one, and
// writes the IPv6 form of each.
func (c *to6) cutUp(s *Scratch) {
	whole, o := c.h.b, c.o
	c.o, c.compute = offload{}, false // segments are complete
	for i := range o.count(whole, c.h.ihl) {
		seg := o.segment(s, whole, c.h.ihl, i)
		c.h.b = seg.Bytes()
		c.split = !c.h.df && len(c.h.payload())+c.grow > c.limits.lowest6
		c.write(s, &seg)
	}
}
