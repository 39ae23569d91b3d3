package siit

// to4 is an IPv6 packet that is to become IPv4, with what the checks have found
// out about it.
type to4 struct {
	h     header6
	o     offload
	a     mapped4
	proto uint8 // in IPv4
	tos   uint8
	field int // the transport checksum, from the start of the payload; 0: none
	echo  icmpHeader

	df    bool
	split bool // into fragments
	cut   bool // a super-packet into its segments
}

// mapped4 is what the addresses of an IPv6 packet became.
type mapped4 struct {
	src, dst  uint32
	fromDummy bool // the source has no IPv4 address, 192.0.0.8 stands for it
	neutral   bool // their sum is that of the IPv6 addresses
}

// from6 translates an IPv6 packet (RFC 7915 section 5).
func (t *Translator) from6(s *Scratch, p *Packet) (Verdict, Reason) {
	var c to4
	if no := t.check6(p, &c); no.reason != None {
		return t.sources.refuse6(s, &c, no)
	}
	if c.h.icmpError {
		return t.icmpError6(s, &c)
	}
	// From here on nothing is refused, and the packet may be changed.
	if c.cut {
		c.cutUp(s, &t.limits)
	} else {
		c.write(s, p, &t.limits)
	}
	return Translated, None
}

// check6 looks for reasons to refuse an IPv6 packet and fills c in. It changes
// nothing else. What an ICMP error quotes is not looked at.
func (t *Translator) check6(p *Packet, c *to4) refusal {
	h := &c.h
	r := h.parse(p.Bytes())
	if r != None {
		return drop(r)
	}
	c.tos = h.tos() & t.tosMask
	if p.Offload != (Offload{}) {
		if c.o, r = checkOffload(p.Offload, h.b, h.l4, h.proto, h.fragment, GSOTCPv6); r != None {
			return drop(r)
		}
	}
	switch c.a, r = t.mapping.addresses4(h); r {
	case None:
	case SourceOutsidePREF64, DestinationUnmappable, DestinationDenied, NoMap:
		return unreachableFor(r)
	default:
		return drop(r)
	}
	if h.routing != 0 {
		return answer(RoutingHeader, 4, 0, uint32(h.routing))
	}
	if h.b[7] <= 1 {
		return answer(TTLExceeded, 3, 0, 0)
	}
	switch h.proto {
	case protoICMPv6:
		if h.isFragment() {
			return drop(FragmentedICMP)
		}
		if h.icmpError {
			return refusal{}
		}
	case protoICMP:
		return drop(ProtocolOfOtherFamily)
	}
	if r := c.checkTransport(); r != None {
		return drop(r)
	}
	return c.checkSize(&t.limits)
}

// checkTransport checks the transport header.
func (c *to4) checkTransport() (r Reason) {
	h := &c.h
	c.proto = h.proto
	if h.proto == protoICMPv6 {
		c.proto = protoICMP
		c.echo, r = echo6(h.payload(), &c.o, h.b[8:40])
		return r
	}
	if c.field, r = checksumField(h.payload(), h.proto, h.fragOff); r != None {
		return r
	}
	if h.proto == protoUDP && c.field != 0 && !c.o.partial && isZero(h.payload()[c.field:]) {
		return UDPZeroChecksumIPv6
	}
	return None
}

// checkSize decides whether the IPv4 packet has to be split, and whether it
// may be on its way: small ones may, since the sender need not hear of an MTU
// below 1280 (RFC 7915 section 5.1). A super-packet stands for segments, and the
// rules are about those.
func (c *to4) checkSize(l *limits) refusal {
	h := &c.h
	n := len(h.payload())
	if c.o.segments {
		c.cut = n > 65535-ipv4Len
		n = min(n, c.o.header+c.o.size)
	}
	c.setSize(n, l.mtu4)
	if c.split && c.df {
		return answer(TooBig, 2, 0, uint32(max(minMTU6, min(l.mtu6, l.mtu4+ipv4Len))))
	}
	if c.split && c.o.segments {
		c.cut = true
	}
	if c.cut && !fitsScratch(len(h.b), h.l4+c.o.header, c.o.size, l.chunk4(), ipv4Len) {
		return drop(TooManyFragments)
	}
	return refusal{}
}

// setSize says what a payload of n bytes means for the IPv4 packet.
func (c *to4) setSize(n, mtu4 int) {
	c.df = !c.h.fragment && n+ipv4Len > minMTU6-ipv4Len
	c.split = n+ipv4Len > mtu4
}

// write writes the IPv4 form of p, which c describes.
func (c *to4) write(s *Scratch, p *Packet, l *limits) {
	h := &c.h
	payload := h.payload()
	if c.o.foreign {
		complete(h.b, int(p.CsumStart), int(p.CsumOffset))
	}
	if c.proto == protoICMP {
		c.echo.put(payload)
	} else if c.field != 0 && !c.a.neutral {
		d := delta(add(sum16(h.b[8:]), sum16(h.b[24:])), add(sum4(c.a.src), sum4(c.a.dst)))
		c.o.update(payload[c.field:], c.proto, d)
	}
	id := uint16(h.id)
	if !h.fragment {
		id = s.nextID()
		if c.o.segments {
			s.id += uint16((len(payload) - c.o.header - 1) / c.o.size) // the other segments have theirs
		}
	}
	var head [ipv4Len]byte
	putIPv4(&head, c.tos, ipv4Len+len(payload), id, h.frag4(c.df), h.b[7]-1, c.proto, c.a.src, c.a.dst)
	if c.split {
		if c.o.partial {
			complete(payload, 0, c.field)
		}
		l.split4(s, &head, payload)
		return
	}
	end := p.Off + len(h.b)
	at := p.Off + h.l4 - ipv4Len
	copy(p.Buf[at:], head[:])
	s.emit(Packet{Buf: p.Buf[:end], Off: at, Offload: c.o.shift(p.Offload, ipv4Len, GSOTCPv4)})
}

// cutUp cuts a super-packet, whose segments have to be treated one by one, and
// writes the IPv4 form of each.
func (c *to4) cutUp(s *Scratch, l *limits) {
	whole, o := c.h.b, c.o
	c.o = offload{} // segments are complete
	for i := range o.count(whole, c.h.l4) {
		seg := o.segment(s, whole, c.h.l4, i)
		c.h.b = seg.Bytes()
		c.setSize(len(c.h.payload()), l.mtu4)
		c.write(s, &seg, l)
	}
}
