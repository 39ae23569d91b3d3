package siit

import "encoding/binary"

// The packet that an ICMP error quotes is translated like any other, but for
// its TTL, which is that of the packet as it was found (RFC 7915 sections 4.3
// and 5.3). As much of it as there is, and as fits, is written.

// quoteTo6 is a quoted IPv4 packet that is to become IPv6.
type quoteTo6 struct {
	head    []byte   // IPv4 header
	l4      []byte   // as much as is quoted of what follows it
	behind  []byte   // bytes behind the packet that stay as they are
	addrs   [32]byte // source and destination in IPv6
	length  int      // bytes behind the header, quoted or not
	next    uint8    // upper-layer protocol in IPv6
	fragOff int      // bytes
	more    bool
}

// check checks the IPv4 packet at the start of q. If behind is set, the bytes
// of q behind that packet are kept.
func (c *quoteTo6) check(m *mapping, q []byte, behind bool) Reason {
	if len(q) < ipv4Len || q[0]>>4 != 4 {
		return ICMPErrorMalformed
	}
	ihl, total := int(q[0]&0x0f)*4, int(binary.BigEndian.Uint16(q[2:]))
	if ihl < ipv4Len || ihl > len(q) || total < ihl {
		return ICMPErrorMalformed
	}
	frag := binary.BigEndian.Uint16(q[6:])
	c.fragOff, c.more = int(frag&0x1fff)*8, frag&0x2000 != 0
	end := min(len(q), total)
	c.head, c.l4, c.length = q[:ihl], q[ihl:end], total-ihl
	if behind {
		c.behind = q[end:]
	}

	c.next = q[9]
	switch c.next {
	case protoICMP:
		switch {
		case c.isFragment():
			return FragmentedICMP
		case len(c.l4) < 4:
			return ICMPErrorMalformed
		case isError4(c.l4[0]):
			return ICMPErrorNested
		case echoTo6(c.l4[0]) == 0:
			return ICMPTypeUntranslatable
		}
		c.next = protoICMPv6
	case protoHopByHop, protoRouting, protoFragment, protoICMPv6, protoDestOpts:
		return ICMPErrorNotOurs
	}
	// The packet came from the other side and was on its way to ours. Simple
	// hairpinning does not map its destination by EAM (RFC 7757 section 4.2.1).
	src, dst := binary.BigEndian.Uint32(q[12:]), binary.BigEndian.Uint32(q[16:])
	by := m.any6(c.addrs[:], src, true)
	to := m.own6(c.addrs[16:], dst, m.hairpin == HairpinOff)
	if by == unmapped || to == unmapped || to == byPREF64 && illegalSource4(dst) || m.refused4(src, by, dst, to) != None {
		return ICMPErrorNotOurs
	}
	return None
}

func (c *quoteTo6) isFragment() bool { return c.more || c.fragOff != 0 }

// write writes as much as fits to dst, and returns the number of bytes.
func (c *quoteTo6) write(dst []byte) int {
	q, next, n := c.head, c.next, ipv6Len
	if c.isFragment() {
		putFragmentHeader(dst[ipv6Len:], next, c.fragOff, c.more, binary.BigEndian.Uint16(q[4:]))
		next, n = protoFragment, ipv6Len+fragmentLen
	}
	putIPv6(dst, q[1], n-ipv6Len+c.length, next, q[8], c.addrs[:])
	l4 := dst[n:][:copy(dst[n:], c.l4)]
	d := delta(sum8(q[12:]), add(sum16(c.addrs[:]), sum16(c.addrs[16:])))
	if next == protoICMPv6 {
		d = pseudo6(c.addrs[:], c.length, protoICMPv6)
	}
	updateQuoted(l4, q[9], c.fragOff, echoTo6, d)
	n += len(l4)
	return n + copy(dst[n:], c.behind)
}

// quoteTo4 is a quoted IPv6 packet that is to become IPv4.
type quoteTo4 struct {
	h        header6 // h.b ends where the quote does
	behind   []byte  // bytes behind the packet that stay as they are
	src, dst uint32
	length   int   // bytes behind the headers, quoted or not
	proto    uint8 // in IPv4
}

// parse takes the IPv6 packet at the start of q apart. If behind is set, the
// bytes of q behind that packet are kept.
func (c *quoteTo4) parse(q []byte, behind bool) Reason {
	if len(q) < ipv6Len || q[0]>>4 != 6 {
		return ICMPErrorMalformed
	}
	total := ipv6Len + int(binary.BigEndian.Uint16(q[4:]))
	c.h.b = q[:min(len(q), total)]
	if behind {
		c.behind = q[len(c.h.b):]
	}
	if c.h.walk() != None {
		return ICMPErrorMalformed
	}
	c.length = total - c.h.l4
	return None
}

// check checks the packet that parse has taken apart.
func (c *quoteTo4) check(m *mapping) Reason {
	h := &c.h
	if c.length < 0 || c.length > 65535-ipv4Len {
		return ICMPErrorMalformed
	}
	l4 := h.payload()
	c.proto = h.proto
	switch h.proto {
	case protoICMPv6:
		switch {
		case h.isFragment():
			return FragmentedICMP
		case len(l4) < 4:
			return ICMPErrorMalformed
		case l4[0] < 128:
			return ICMPErrorNested
		}
		if _, ok := echoTo4(l4[0]); !ok {
			return ICMPTypeUntranslatable
		}
		c.proto = protoICMP
	case protoICMP:
		return ICMPErrorNotOurs
	}
	var by, to how
	c.src, by = m.own4(h.b[8:])
	c.dst, to = m.any4(h.b[24:])
	if by == unmapped || to == unmapped || by == byPREF64 && illegalSource4(c.src) || m.refused6(c.src, by, c.dst, to) != None {
		return ICMPErrorNotOurs
	}
	return None
}

// size returns how many bytes write writes at most.
func (c *quoteTo4) size() int { return len(c.h.b) + len(c.behind) }

// write writes as much as fits to dst, and returns the number of bytes. The
// lengths are those of the packet, not of the quote.
func (c *quoteTo4) write(dst []byte) int {
	h, n := &c.h, ipv4Len
	df := !h.fragment && ipv4Len+c.length > minMTU6-ipv4Len
	putIPv4((*[ipv4Len]byte)(dst), h.tos(), ipv4Len+c.length, uint16(h.id), h.frag4(df), h.b[7], c.proto, c.src, c.dst)
	l4 := dst[n:][:copy(dst[n:], h.payload())]
	d := delta(add(sum16(h.b[8:]), sum16(h.b[24:])), add(sum4(c.src), sum4(c.dst)))
	if c.proto == protoICMP {
		d = ^pseudo6(h.b[8:], c.length, protoICMPv6)
	}
	updateQuoted(l4, c.proto, h.fragOff, func(k uint8) uint8 { k, _ = echoTo4(k); return k }, d)
	n += len(l4)
	return n + copy(dst[n:], c.behind)
}

// updateQuoted adjusts the transport header in a quote: the type of an echo
// message (the one of IPv4 has the protocol number ICMP in both directions)
// and the checksum, if the quote reaches that far. d is the change of the
// pseudo-header's sum.
func updateQuoted(l4 []byte, proto uint8, fragOff int, echo func(uint8) uint8, d uint16) {
	if fragOff != 0 {
		return
	}
	field := 0
	switch proto {
	case protoTCP:
		field = 16
	case protoUDP, protoUDPLite, protoDCCP:
		field = 6
	case protoICMP:
		before := uint16(l4[0])<<8 | uint16(l4[1])
		l4[0] = echo(l4[0])
		updateComplete(l4[2:], add(delta(before, uint16(l4[0])<<8|uint16(l4[1])), d))
		return
	}
	if field == 0 || len(l4) < field+2 {
		return
	}
	c := l4[field:]
	if proto == protoUDP && isZero(c) {
		return // there was none and there still is none
	}
	updateComplete(c, d)
	if proto == protoUDP || proto == protoUDPLite {
		neverZero(c)
	}
}
