package siit

import "encoding/binary"

const (
	// maxError6 is the size of the largest ICMPv6 error (RFC 4443 section 2.4 c).
	maxError6 = minMTU6
	// maxError4 is the size that an ICMPv4 error keeps to when it is made here
	// or carries an extension (RFC 1812 section 4.3.2.3, RFC 4884 section 7).
	maxError4 = 576
	// minOriginal is the least length of the original datagram in front of an
	// extension structure (RFC 4884 section 4).
	minOriginal = 128
)

// original splits the body of an ICMP error into the original datagram field
// and the extension structure behind it. length is the RFC 4884 length
// attribute in units of unit bytes, least the number of bytes that the quoted
// packet needs at the start of body.
//
// Without a usable length attribute ext is nil and quote is the whole body: the
// quoted packet matters more than what is appended. A length below 128 bytes
// breaks RFC 4884 section 4, but routers send it, so it counts if a well-formed
// extension structure follows.
func original(body []byte, length uint8, unit, least int) (quote, ext []byte) {
	n := int(length) * unit
	switch {
	case n == 0, n+extensionHeaderLen > len(body):
		return body, nil
	case n < minOriginal && (n < least || !isExtension(body[n:])):
		return body, nil
	}
	return body[:n], body[n:]
}

// isExtension reports whether b is one ICMP extension structure: version 2, a
// checksum that is right or absent, and objects that fill it (RFC 4884 section 7).
func isExtension(b []byte) bool {
	if len(b) < extensionHeaderLen || b[0]>>4 != 2 || !isZero(b[2:]) && sum(b, 0) != 0xffff {
		return false
	}
	for rest := b[extensionHeaderLen:]; len(rest) > 0; {
		if len(rest) < objectHeaderLen {
			return false
		}
		n := int(binary.BigEndian.Uint16(rest))
		if n < objectHeaderLen || n > len(rest) {
			return false
		}
		rest = rest[n:]
	}
	return true
}

// quoteLeast4 returns how many bytes of the IPv4 packet at the start of q an
// ICMP error must quote: the header and 8 bytes of payload (RFC 792).
func quoteLeast4(q []byte) int {
	if len(q) < ipv4Len {
		return ipv4Len
	}
	return min(int(q[0]&0x0f)*4+8, max(ipv4Len, int(binary.BigEndian.Uint16(q[2:]))))
}

// quoteLeast6 is quoteLeast4 for an IPv6 packet.
func quoteLeast6(q []byte) int {
	if len(q) < ipv6Len {
		return ipv6Len
	}
	return ipv6Len + min(8, int(binary.BigEndian.Uint16(q[4:])))
}

// pad zero-fills the quoted packet at the start of b from n bytes to what an
// extension behind it wants: a multiple of unit and at least minOriginal bytes.
// It returns the new length, at most room.
func pad(b []byte, n, unit, room int) int {
	padded := max(minOriginal, (n+unit-1)/unit*unit)
	padded = min(padded, room/unit*unit)
	if n < padded {
		clear(b[n:padded])
	}
	return padded
}

// icmpError4 translates an ICMPv4 error with the packet it quotes (RFC 7915
// sections 4.2 and 4.3). The result is cut to 1280 bytes (RFC 4443 section 2.4
// c), so its growth is no reason to refuse a packet with DF set: only one that
// exceeds the MTU as it stands is too big.
func (t *Translator) icmpError4(s *Scratch, h *header4, o *offload, addrs *[32]byte, ttl uint8) (Verdict, Reason) {
	m := h.payload()
	if len(m) < icmpLen {
		return Drop, Truncated
	}
	if !o.absent && sum(m, 0) != 0xffff {
		return Drop, BadICMPChecksum
	}
	if h.df && len(h.b) > t.mtu6 {
		return Drop, TooBig // no error about an error
	}
	quoted := 0
	if len(m) >= icmpLen+ipv4Len {
		quoted = int(binary.BigEndian.Uint16(m[icmpLen+2:]))
	}
	e, r := t.error4(m, quoted)
	if r != None {
		return Drop, r
	}
	quote, ext := original(m[icmpLen:], m[5], 4, quoteLeast4(m[icmpLen:]))
	behind := ext == nil
	const room = maxError6 - ipv6Len - icmpLen
	if e.kind == 2 || e.kind == 4 || len(ext) > room-minOriginal {
		ext = nil // RFC 4884 section 4.6 knows none in these types
	}
	q := s.packet(maxError6)
	if q.Buf == nil {
		return Drop, TooManyFragments
	}
	out := q.Bytes()
	body := out[ipv6Len+icmpLen : maxError6-len(ext)]
	n, r := t.quote6(body, quote, behind)
	if r != None {
		return Drop, r
	}
	if ext != nil {
		n = pad(body, n, 8, len(body))
		e.word = uint32(n/8) << 24
		n += copy(out[ipv6Len+icmpLen+n:], ext)
	}
	tos := h.b[1]
	if t.ignoreTOS {
		tos = 0
	}
	out = out[:ipv6Len+icmpLen+n]
	putIPv6(out, tos, icmpLen+n, protoICMPv6, ttl, addrs[:])
	putICMP(out[ipv6Len:], e, pseudo6(addrs[:], icmpLen+n, protoICMPv6))
	q.Buf = q.Buf[:q.Off+len(out)]
	if !s.emit(q) {
		return Drop, TooManyFragments
	}
	return Translated, None
}

// putICMP writes the header of the ICMP message m and its checksum, which
// includes pseudo, the sum of the pseudo-header (0 in ICMPv4).
func putICMP(m []byte, e icmpHead, pseudo uint16) {
	m[0], m[1], m[2], m[3] = e.kind, e.code, 0, 0
	binary.BigEndian.PutUint32(m[4:], e.word)
	binary.BigEndian.PutUint16(m[2:], ^sum(m, pseudo))
}

// quote6 translates the IPv4 packet that an ICMP error quotes, or as much of it
// as there is, and writes as much as fits to dst (RFC 7915 section 4.3). If
// behind is set, the bytes of q behind that packet follow unchanged.
func (t *Translator) quote6(dst, q []byte, behind bool) (int, Reason) {
	if len(q) < ipv4Len || q[0]>>4 != 4 {
		return 0, ICMPErrorMalformed
	}
	ihl, total := int(q[0]&0x0f)*4, int(binary.BigEndian.Uint16(q[2:]))
	if ihl < ipv4Len || ihl > len(q) || total < ihl {
		return 0, ICMPErrorMalformed
	}
	frag := binary.BigEndian.Uint16(q[6:])
	fragOff, more := int(frag&0x1fff)*8, frag&0x2000 != 0
	l4 := q[ihl:min(len(q), total)]
	length := total - ihl

	next := q[9]
	switch next {
	case protoICMP:
		switch {
		case fragOff != 0 || more:
			return 0, FragmentedICMP
		case len(l4) < 4:
			return 0, ICMPErrorMalformed
		case isError4(l4[0]):
			return 0, ICMPErrorNested
		case echoTo6(l4[0]) == 0:
			return 0, ICMPTypeUntranslatable
		}
		next = protoICMPv6
	case protoHopByHop, protoRouting, protoFragment, protoICMPv6, protoDestOpts:
		return 0, ICMPErrorNotOurs
	}
	// The packet came from the other side and was on its way to ours. Simple
	// hairpinning does not map its destination by EAM (RFC 7757 section 4.2.1).
	var addrs [32]byte
	src, dst4 := binary.BigEndian.Uint32(q[12:]), binary.BigEndian.Uint32(q[16:])
	by := t.m.any6(addrs[:], src, true)
	to := t.m.own6(addrs[16:], dst4, t.m.hairpin == HairpinOff)
	if to == unmapped || to == byPREF64 && illegalSource4(dst4) || t.refused4(src, by, dst4, to) != None {
		return 0, ICMPErrorNotOurs
	}

	head := ipv6Len
	if fragOff != 0 || more {
		head += fragmentLen
		putFragmentHeader(dst[ipv6Len:], next, fragOff, more, binary.BigEndian.Uint16(q[4:]))
		next = protoFragment
	}
	tos := q[1]
	if t.ignoreTOS {
		tos = 0
	}
	putIPv6(dst, tos, head-ipv6Len+length, next, q[8], addrs[:])
	n := copy(dst[head:], l4)
	d := delta(sum8(q[12:]), add(sum16(addrs[:]), sum16(addrs[16:])))
	if next == protoICMPv6 {
		d = pseudo6(addrs[:], length, protoICMPv6)
	}
	updateQuoted(dst[head:head+n], q[9], fragOff, echoTo6, d)
	n += head
	if behind {
		n += copy(dst[n:], q[min(len(q), total):])
	}
	return n, None
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

// icmpError6 translates an ICMPv6 error with the packet it quotes (RFC 7915
// sections 5.2 and 5.3). turn says that the result is to be turned round.
func (t *Translator) icmpError6(s *Scratch, h *header6, o *offload, a *mapped4) (v Verdict, r Reason, turn bool) {
	m := h.payload()
	if len(m) < icmpLen {
		return Drop, Truncated, false
	}
	if !o.absent && sum(m, pseudo6(h.b[8:], len(m), protoICMPv6)) != 0xffff {
		return Drop, BadICMPChecksum, false
	}
	quote, ext := m[icmpLen:], []byte(nil)
	if m[0] == 1 || m[0] == 3 {
		quote, ext = original(quote, m[4], 8, quoteLeast6(quote))
	}
	inner, bad := parseQuote6(quote)
	var behind []byte // the quoted packet
	if bad == None && ext == nil {
		behind = quote[len(inner.b):]
	}
	e, r := t.error6(m, inner.fragment)
	if r != None {
		return Drop, r, false
	}
	if bad != None {
		return Drop, bad, false
	}

	// draft-ietf-v6ops-icmpext-xlat-v6only-source section 4.2: tell who sent
	// it. In a Packet Too Big the quote is worth more than the name.
	node := t.nodeID && a.fromDummy && (m[0] == 1 || m[0] == 3)
	room := min(t.mtu4, 65535) - ipv4Len - icmpLen
	if ext != nil || node {
		room = min(room, maxError4-ipv4Len-icmpLen)
	}
	extLen := len(ext)
	if node {
		extLen += nodeIDLen
		if ext == nil {
			extLen += extensionHeaderLen
		}
	}
	if extLen > room-minOriginal {
		ext, node, extLen = nil, false, 0
	}
	q := s.packet(ipv4Len + icmpLen + len(quote) + minOriginal + extLen)
	if q.Buf == nil {
		return Drop, TooManyFragments, false
	}
	out := q.Bytes()
	body := out[ipv4Len+icmpLen:]
	body = body[:min(len(body), room)-extLen]
	n, turn, r := t.quote4(body, &inner, behind)
	if r != None {
		return Drop, r, false
	}
	if extLen > 0 {
		n = pad(body, n, 4, len(body))
		e.word |= uint32(n/4) << 16
		x := out[ipv4Len+icmpLen+n:][:extLen]
		copy(x, ext)
		if node {
			appendNodeID(x, len(ext), h.b[8:24])
		}
		n += extLen
	}
	out = out[:ipv4Len+icmpLen+n]
	putICMP(out[ipv4Len:], e, 0)
	df := len(out) > minMTU6-ipv4Len
	putIPv4((*[ipv4Len]byte)(out), t.tos6(h), len(out), s.nextID(), h.frag4(df), h.b[7]-1, protoICMP, a.src, a.dst)
	q.Buf = q.Buf[:q.Off+len(out)]
	if !s.emit(q) {
		return Drop, TooManyFragments, false
	}
	return Translated, None, turn
}

// parseQuote6 takes the IPv6 packet apart that an ICMPv6 error quotes; h.b
// ends where the quote does.
func parseQuote6(q []byte) (h header6, r Reason) {
	if len(q) < ipv6Len || q[0]>>4 != 6 {
		return h, ICMPErrorMalformed
	}
	h.b = q[:min(len(q), ipv6Len+int(binary.BigEndian.Uint16(q[4:])))]
	if h.walk() != None {
		return h, ICMPErrorMalformed
	}
	return h, None
}

// quote4 translates the quoted packet h and writes as much as fits to dst,
// followed by the bytes behind it, unchanged. The lengths are those of the
// packet, not of the quote. turn says that its source was made from PREF64 but
// has an explicit mapping, as RFC 7757 section 4.2.2 asks.
func (t *Translator) quote4(dst []byte, h *header6, behind []byte) (n int, turn bool, r Reason) {
	l4 := h.payload()
	length := ipv6Len + int(binary.BigEndian.Uint16(h.b[4:])) - h.l4
	if length < 0 || length > 65535-ipv4Len {
		return 0, false, ICMPErrorMalformed
	}
	proto := h.proto
	switch proto {
	case protoICMPv6:
		switch {
		case h.more || h.fragOff != 0:
			return 0, false, FragmentedICMP
		case len(l4) < 4:
			return 0, false, ICMPErrorMalformed
		case l4[0] < 128:
			return 0, false, ICMPErrorNested
		}
		if _, ok := echoTo4(l4[0]); !ok {
			return 0, false, ICMPTypeUntranslatable
		}
		proto = protoICMP
	case protoICMP:
		return 0, false, ICMPErrorNotOurs
	}
	src, by := t.m.own4(h.b[8:])
	dst4, to := t.m.any4(h.b[24:])
	if by == unmapped || to == unmapped || by == byPREF64 && illegalSource4(src) || t.refused6(src, by, dst4, to) != None {
		return 0, false, ICMPErrorNotOurs
	}
	turn = t.m.hairpin == HairpinIntrinsic && by == byPREF64 && t.m.eam.has4(src)

	df := !h.fragment && ipv4Len+length > minMTU6-ipv4Len
	id := uint16(0)
	if h.fragment {
		id = uint16(h.id)
	}
	putIPv4((*[ipv4Len]byte)(dst), t.tos6(h), ipv4Len+length, id, h.frag4(df), h.b[7], proto, src, dst4)
	n = copy(dst[ipv4Len:], l4)
	d := delta(add(sum16(h.b[8:]), sum16(h.b[24:])), add(sum4(src), sum4(dst4)))
	if proto == protoICMP {
		d = ^pseudo6(h.b[8:], length, protoICMPv6)
	}
	updateQuoted(dst[ipv4Len:ipv4Len+n], proto, h.fragOff, func(k uint8) uint8 { k, _ = echoTo4(k); return k }, d)
	n += ipv4Len
	return n + copy(dst[n:], behind), turn, None
}

const (
	extensionHeaderLen = 4  // RFC 4884 section 7
	objectHeaderLen    = 4  // RFC 4884 section 8
	nodeIDLen          = 24 // Node Identification Object with one IPv6 address
)

// appendNodeID writes a Node Identification Object with the IPv6 address addr
// behind the n bytes of extension structure at the start of x, or begins a
// structure with it, and makes the checksum right
// (draft-ietf-intarea-extended-icmp-nodeid).
func appendNodeID(x []byte, n int, addr []byte) {
	if n == 0 {
		x[0], x[1] = 0x20, 0 // version 2
		n = extensionHeaderLen
	}
	object := x[n : n+nodeIDLen]
	copy(object, []byte{0, nodeIDLen, 5, 0x04, 0, 2, 0, 0}) // class 5, address present, AFI 2 (IPv6)
	copy(object[8:], addr)
	x[2], x[3] = 0, 0
	binary.BigEndian.PutUint16(x[2:], ^sum(x[:n+nodeIDLen], 0))
}
