package siit

import "encoding/binary"

// ICMP extensions (RFC 4884).

const (
	// minOriginal is the least length of the original datagram in front of an
	// extension structure (RFC 4884 section 4).
	minOriginal = 128

	extensionHeaderLen = 4  // RFC 4884 section 7
	objectHeaderLen    = 4  // RFC 4884 section 8
	nodeIDLen          = 24 // Node Identification Object with one IPv6 address
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
	if len(b) < extensionHeaderLen || b[0]>>4 != 2 || !isZero(b[2:]) && Sum(b, 0) != 0xffff {
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

// kept returns how many bytes of the extension structure ext there is room for
// (RFC 7915 sections 4.2 and 5.2): all of it, or its header and the first objects,
// or nothing. What is not well-formed is not cut, as that would make its checksum
// right.
func kept(ext []byte, room int) int {
	if len(ext) <= room {
		return len(ext)
	}
	if !isExtension(ext) {
		return 0
	}
	n := extensionHeaderLen
	for {
		next := n + int(binary.BigEndian.Uint16(ext[n:]))
		if next > room {
			break
		}
		n = next // not the end of ext, which there is no room for
	}
	if n == extensionHeaderLen {
		return 0
	}
	return n
}

// putExtension writes the first n bytes of the extension structure ext to x. If
// that is not all of it, the checksum is made right.
func putExtension(x, ext []byte, n int) {
	copy(x, ext[:n])
	if n > 0 && n < len(ext) && !isZero(x[2:]) {
		x[2], x[3] = 0, 0
		binary.BigEndian.PutUint16(x[2:], ^Sum(x[:n], 0))
	}
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
	binary.BigEndian.PutUint16(x[2:], ^Sum(x[:n+nodeIDLen], 0))
}
