package siit

import "encoding/binary"

const (
	// maxError6 is the size of the largest ICMPv6 error (RFC 4443 section 2.4 c).
	maxError6 = minMTU6
	// maxError4 is the size that an ICMPv4 error keeps to when it is made here
	// or carries an extension (RFC 1812 section 4.3.2.3, RFC 4884 section 7).
	maxError4 = 576
)

// errorTo6 is an ICMPv4 error that is to become one of ICMPv6.
type errorTo6 struct {
	head  icmpHead
	quote quoteTo6
	ext   []byte // extension structure, or nil
	keep  int    // bytes of it that are written
}

// icmpError4 translates an ICMPv4 error that has passed check4.
func (t *Translator) icmpError4(s *Scratch, c *to6) (Verdict, Reason) {
	var e errorTo6
	if r := t.checkError4(c, &e); r != None {
		return Drop, r
	}
	// From here on nothing is refused.
	e.write(s, c)
	return Translated, None
}

// checkError4 checks an ICMPv4 error and the packet it quotes (RFC 7915 sections
// 4.2 and 4.3). The result is cut to 1280 bytes (RFC 4443 section 2.4 c), so its
// growth is no reason to refuse a packet with DF set: only one that exceeds the
// MTU as it stands is too big.
func (t *Translator) checkError4(c *to6, e *errorTo6) (r Reason) {
	m := c.h.payload()
	if len(m) < icmpLen {
		return Truncated
	}
	if !c.o.absent && Sum(m, 0) != 0xffff {
		return BadICMPChecksum
	}
	if c.h.df && len(c.h.b) > c.limits.mtu6 {
		return TooBig // no error about an error
	}
	body := m[icmpLen:]
	quoted := 0
	if len(body) >= ipv4Len {
		quoted = int(binary.BigEndian.Uint16(body[2:]))
	}
	if e.head, r = t.limits.error4(m, quoted); r != None {
		return r
	}
	quote, ext := original(body, m[5], 4, quoteLeast4(body))
	behind := ext == nil
	const room = maxError6 - ipv6Len - icmpLen
	if e.head.kind != 2 && e.head.kind != 4 { // RFC 4884 section 4.6 knows none in these types
		e.ext, e.keep = ext, kept(ext, room-minOriginal)
	}
	return e.quote.check(&t.mapping, quote, behind)
}

// write writes the ICMPv6 error that c and e describe.
func (e *errorTo6) write(s *Scratch, c *to6) {
	q := s.packet(maxError6)
	out := q.Bytes()
	body := out[ipv6Len+icmpLen : maxError6-e.keep]
	n := e.quote.write(body)
	if e.keep > 0 {
		n = pad(body, n, 8, len(body))
		e.head.word = uint32(n/8) << 24
		putExtension(out[ipv6Len+icmpLen+n:], e.ext, e.keep)
		n += e.keep
	}
	out = out[:ipv6Len+icmpLen+n]
	putIPv6(out, c.class, icmpLen+n, protoICMPv6, c.h.b[8]-1, c.addrs[:])
	putICMP(out[ipv6Len:], e.head, pseudo6(c.addrs[:], icmpLen+n, protoICMPv6))
	q.Buf = q.Buf[:q.Off+len(out)]
	s.emit(q)
}

// errorTo4 is an ICMPv6 error that is to become one of ICMPv4.
type errorTo4 struct {
	head  icmpHead
	quote quoteTo4
	ext   []byte // extension structure, or nil
	node  bool   // add the Node Identification Object
}

// icmpError6 translates an ICMPv6 error that has passed check6.
func (t *Translator) icmpError6(s *Scratch, c *to4) (Verdict, Reason) {
	var e errorTo4
	if r := t.checkError6(c, &e); r != None {
		return Drop, r
	}
	// From here on nothing is refused.
	e.write(s, c, t.limits.mtu4)
	return Translated, None
}

// checkError6 checks an ICMPv6 error and the packet it quotes (RFC 7915 sections
// 5.2 and 5.3).
func (t *Translator) checkError6(c *to4, e *errorTo4) (r Reason) {
	m := c.h.payload()
	if len(m) < icmpLen {
		return Truncated
	}
	if !c.o.absent && Sum(m, pseudo6(c.h.b[8:], len(m), protoICMPv6)) != 0xffff {
		return BadICMPChecksum
	}
	body := m[icmpLen:]
	mayExtend := m[0] == 1 || m[0] == 3
	if mayExtend {
		body, e.ext = original(body, m[4], 8, quoteLeast6(body))
	}
	bad := e.quote.parse(body, e.ext == nil)
	if e.head, r = t.limits.error6(m, e.quote.h.fragment); r != None {
		return r
	}
	if bad != None {
		return bad
	}
	// draft-ietf-v6ops-icmpext-xlat-v6only-source section 4.2: tell who sent
	// it. In a Packet Too Big the quote is worth more than the name.
	e.node = t.nodeID && c.a.fromDummy && mayExtend
	return e.quote.check(&t.mapping)
}

// write writes the ICMPv4 error that c and e describe, of at most mtu4 bytes.
func (e *errorTo4) write(s *Scratch, c *to4, mtu4 int) {
	room := mtu4 - ipv4Len - icmpLen
	extRoom := min(room, maxError4-ipv4Len-icmpLen) - minOriginal
	nodeLen := 0
	if e.node {
		nodeLen = nodeIDLen
	}
	keep := kept(e.ext, extRoom-nodeLen)
	if e.node && keep == 0 {
		nodeLen += extensionHeaderLen
	}
	extLen := keep + nodeLen
	if extLen > extRoom {
		e.node, keep, extLen = false, 0, 0
	}
	if extLen > 0 {
		room = extRoom + minOriginal
	}
	q := s.packet(ipv4Len + icmpLen + e.quote.size() + minOriginal + extLen)
	out := q.Bytes()
	body := out[ipv4Len+icmpLen:]
	body = body[:min(len(body), room)-extLen]
	n := e.quote.write(body)
	if extLen > 0 {
		n = pad(body, n, 4, len(body))
		e.head.word |= uint32(n/4) << 16
		x := out[ipv4Len+icmpLen+n:][:extLen]
		putExtension(x, e.ext, keep)
		if e.node {
			appendNodeID(x, keep, c.h.b[8:24])
		}
		n += extLen
	}
	out = out[:ipv4Len+icmpLen+n]
	putICMP(out[ipv4Len:], e.head, 0)
	df, id := len(out) > minMTU6-ipv4Len, uint16(c.h.id)
	if c.h.fragment { // an atomic fragment (RFC 7915 section 5.1.1)
		df = false
	} else {
		id = s.nextID()
	}
	putIPv4((*[ipv4Len]byte)(out), c.tos, len(out), id, c.h.frag4(df), c.h.b[7]-1, protoICMP, c.a.src, c.a.dst)
	q.Buf = q.Buf[:q.Off+len(out)]
	s.emit(q)
}

// putICMP writes the header of the ICMP message m and its checksum, which
// includes pseudo, the sum of the pseudo-header (0 in ICMPv4).
func putICMP(m []byte, e icmpHead, pseudo uint16) {
	m[0], m[1], m[2], m[3] = e.kind, e.code, 0, 0
	binary.BigEndian.PutUint32(m[4:], e.word)
	binary.BigEndian.PutUint16(m[2:], ^Sum(m, pseudo))
}
