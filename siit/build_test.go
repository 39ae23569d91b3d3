package siit_test

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tnat64d/siit"
)

// Packet builders. A zero field means the ordinary thing: a packet from the
// CLAT's host to the remote host (IPv4), or back (IPv6), TTL 64.

var (
	clat4       = netip.MustParseAddr("192.0.0.1")
	clat6       = netip.MustParseAddr("2001:db8:aaaa::464")
	pref64      = netip.MustParsePrefix("2001:db8:122:344::/96")
	remote4     = netip.MustParseAddr("198.51.100.7")
	remote6     = netip.MustParseAddr("2001:db8:122:344::c633:6407")
	native6     = netip.MustParseAddr("2001:db8:ffff::1")
	icmpSource4 = netip.MustParseAddr("192.0.0.2")
	dummy4      = netip.MustParseAddr("192.0.0.8") // RFC 7600 section 4.8

	wellKnown = netip.MustParsePrefix("64:ff9b::/96")

	// Checksum-neutral addresses (RFC 6052 section 4.1), for clat4.
	neutralPREF64 = netip.MustParsePrefix("2001:db8:64:0:0:d1e2::/96")
	neutralCLAT6  = netip.MustParseAddr("2001:db8:aaaa:1::e79c")
)

// Protocol and extension header numbers.
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoIGMP     = 2
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoESP      = 50
	protoAH       = 51
	protoICMPv6   = 58
	protoNone     = 59
	protoDestOpts = 60
)

// hostConfig is the configuration of a host's CLAT, as most vectors have it.
func hostConfig() siit.Config {
	return siit.Config{
		Mapping: siit.Mapping{PREF64: pref64, CLAT: siit.Pair{IPv4: clat4, IPv6: clat6}},
		MTU6:    1500, MTU4: 1480, LowestIPv6MTU: 1280,
		ICMPSource4: icmpSource4,
	}
}

// neutralConfig is hostConfig with addresses that leave checksums alone.
func neutralConfig() siit.Config {
	c := hostConfig()
	c.Mapping.PREF64 = neutralPREF64
	c.Mapping.CLAT.IPv6 = neutralCLAT6
	return c
}

// routerConfig translates any address by RFC 6052, and back.
func routerConfig(eam ...siit.EAM) siit.Config {
	c := hostConfig()
	c.Mapping = siit.Mapping{PREF64: pref64, EAM: eam}
	return c
}

// host is the prefix that only a lies in.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func eam(ipv4, ipv6 string) siit.EAM {
	return siit.EAM{IPv4: netip.MustParsePrefix(ipv4), IPv6: netip.MustParsePrefix(ipv6)}
}

// ip4 is an IPv4 packet to be built.
type ip4 struct {
	src, dst        netip.Addr // default clat4, remote4
	tos, ttl, proto uint8      // default TTL 64, UDP
	id              uint16
	df, mf          bool
	offset          int    // of a fragment, in bytes
	options         []byte // a multiple of 4 bytes
	payload         []byte
}

func (h ip4) bytes() []byte {
	if !h.src.IsValid() {
		h.src = clat4
	}
	if !h.dst.IsValid() {
		h.dst = remote4
	}
	if h.ttl == 0 {
		h.ttl = 64
	}
	if h.proto == 0 {
		h.proto = protoUDP
	}
	n := 20 + len(h.options)
	b := make([]byte, n, n+len(h.payload))
	b[0] = 0x40 | byte(n/4)
	b[1] = h.tos
	binary.BigEndian.PutUint16(b[2:], uint16(n+len(h.payload)))
	binary.BigEndian.PutUint16(b[4:], h.id)
	frag := uint16(h.offset / 8)
	if h.df {
		frag |= 0x4000
	}
	if h.mf {
		frag |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9] = h.ttl, h.proto
	copy(b[12:], h.src.AsSlice())
	copy(b[16:], h.dst.AsSlice())
	copy(b[20:], h.options)
	fixIPv4Checksum(b)
	return append(b, h.payload...)
}

// fixIPv4Checksum makes the header checksum of p right after a change.
func fixIPv4Checksum(p []byte) {
	n := int(p[0]&15) * 4
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^checksum.Checksum(p[:n], 0))
}

// ip6 is an IPv6 packet to be built.
type ip6 struct {
	src, dst   netip.Addr // default remote6, clat6
	tc         uint8
	flow       uint32
	hop, proto uint8 // default 64, UDP
	ext        []extension
	payload    []byte
}

// extension is an IPv6 extension header. The first byte of body is
// overwritten with the number of the next header.
type extension struct {
	kind uint8
	body []byte
}

func (h ip6) bytes() []byte {
	if !h.src.IsValid() {
		h.src = remote6
	}
	if !h.dst.IsValid() {
		h.dst = clat6
	}
	if h.hop == 0 {
		h.hop = 64
	}
	if h.proto == 0 {
		h.proto = protoUDP
	}
	b := make([]byte, 40)
	binary.BigEndian.PutUint32(b, 6<<28|uint32(h.tc)<<20|h.flow)
	b[7] = h.hop
	copy(b[8:], h.src.AsSlice())
	copy(b[24:], h.dst.AsSlice())
	link := 6 // where the number of the next header goes
	for _, e := range h.ext {
		b[link] = e.kind
		link = len(b)
		b = append(b, e.body...)
	}
	b[link] = h.proto
	b = append(b, h.payload...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// options is a Hop-by-Hop or Destination Options header of n*8 bytes, padded.
func options(kind uint8, n int) extension {
	body := make([]byte, 8*n)
	body[1] = byte(n - 1)
	body[2], body[3] = 1, byte(8*n-4) // PadN
	return extension{kind, body}
}

// routing is a Routing header with one address.
func routing(segmentsLeft uint8) extension {
	body := make([]byte, 24)
	body[1], body[3] = 2, segmentsLeft
	copy(body[8:], native6.AsSlice())
	return extension{protoRouting, body}
}

// fragment is a Fragment Header; offset in bytes.
func fragment(id uint32, offset int, more bool) extension {
	body := make([]byte, 8)
	field := uint16(offset)
	if more {
		field |= 1
	}
	binary.BigEndian.PutUint16(body[2:], field)
	binary.BigEndian.PutUint32(body[4:], id)
	return extension{protoFragment, body}
}

func tcpipAddr(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// pseudoSum is the folded sum of the pseudo-header, not complemented.
func pseudoSum(proto uint8, src, dst netip.Addr, n int) uint16 {
	return header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(proto), tcpipAddr(src), tcpipAddr(dst), uint16(n))
}

// transportSum is the folded sum of segment and pseudo-header: 0xffff if the
// checksum in segment is right.
func transportSum(proto uint8, src, dst netip.Addr, segment []byte) uint16 {
	return checksum.Checksum(segment, pseudoSum(proto, src, dst, len(segment)))
}

// udp is a UDP datagram with a right checksum.
func udp(src, dst netip.Addr, payload []byte) []byte {
	b := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(b, 5353)
	binary.BigEndian.PutUint16(b[2:], 3478)
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(payload)))
	b = append(b, payload...)
	fixUDPChecksum(src, dst, b)
	return b
}

func fixUDPChecksum(src, dst netip.Addr, b []byte) {
	b[6], b[7] = 0, 0
	sum := ^transportSum(protoUDP, src, dst, b)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[6:], sum)
}

// tcp is a TCP segment with a right checksum. opts is a multiple of 4 bytes.
func tcp(src, dst netip.Addr, flags uint8, opts, payload []byte) []byte {
	n := 20 + len(opts)
	b := make([]byte, n, n+len(payload))
	binary.BigEndian.PutUint16(b, 40000)
	binary.BigEndian.PutUint16(b[2:], 443)
	binary.BigEndian.PutUint32(b[4:], 0x01020304)
	binary.BigEndian.PutUint32(b[8:], 0x0a0b0c0d)
	b[12] = byte(n/4) << 4
	b[13] = flags
	binary.BigEndian.PutUint16(b[14:], 501)
	copy(b[20:], opts)
	b = append(b, payload...)
	fixTCPChecksum(src, dst, b)
	return b
}

func fixTCPChecksum(src, dst netip.Addr, b []byte) {
	b[16], b[17] = 0, 0
	binary.BigEndian.PutUint16(b[16:], ^transportSum(protoTCP, src, dst, b))
}

// icmp4 is an ICMPv4 message: type, code, the second word, the rest.
func icmp4(typ, code uint8, word uint32, body []byte) []byte {
	b := make([]byte, 8, 8+len(body))
	b[0], b[1] = typ, code
	binary.BigEndian.PutUint32(b[4:], word)
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[2:], ^checksum.Checksum(b, 0))
	return b
}

// icmp6 is an ICMPv6 message from src to dst.
func icmp6(src, dst netip.Addr, typ, code uint8, word uint32, body []byte) []byte {
	b := make([]byte, 8, 8+len(body))
	b[0], b[1] = typ, code
	binary.BigEndian.PutUint32(b[4:], word)
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[2:], ^transportSum(protoICMPv6, src, dst, b))
	return b
}

// data is n bytes that are not all the same.
func data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// The packets that most tests start from.

// udp4 is a UDP packet from the CLAT's host; its IPv4 length is total.
func udp4(total int, df bool) []byte {
	return ip4{df: df, id: 0x4242, payload: udp(clat4, remote4, data(total-28))}.bytes()
}

// udp6 is a UDP packet to the CLAT's host; its IPv6 length is total.
func udp6(total int) []byte {
	return ip6{payload: udp(remote6, clat6, data(total-48))}.bytes()
}

// error4 is an ICMPv4 error from the CLAT's host about the packet quote.
func error4(typ, code uint8, word uint32, quote []byte) []byte {
	return ip4{proto: protoICMP, payload: icmp4(typ, code, word, quote)}.bytes()
}

// error6 is an ICMPv6 error from src to the CLAT's host about the packet quote.
func error6(src netip.Addr, typ, code uint8, word uint32, quote []byte) []byte {
	return ip6{src: src, proto: protoICMPv6, payload: icmp6(src, clat6, typ, code, word, quote)}.bytes()
}

// received4 is a UDP packet as the CLAT's host received it, to be quoted in
// an error from there.
func received4(payload int) []byte {
	return ip4{src: remote4, dst: clat4, ttl: 50, payload: udp(remote4, clat4, data(payload))}.bytes()
}

// sent6 is a UDP packet of the CLAT's host as a router on the IPv6 side sees
// it, to be quoted in an error from there.
func sent6(payload int) []byte {
	return ip6{src: clat6, dst: remote6, hop: 5, payload: udp(clat6, remote6, data(payload))}.bytes()
}

// embed writes v4 into prefix by the table of RFC 6052 section 2.2.
func embed(prefix netip.Prefix, v4 netip.Addr) netip.Addr {
	a, v := prefix.Masked().Addr().As16(), v4.As4()
	at := prefix.Bits() / 8
	for _, octet := range v {
		if at == 8 {
			at++
		}
		a[at] = octet
		at++
	}
	return netip.AddrFrom16(a)
}

// extract is the reverse of embed.
func extract(prefix netip.Prefix, v6 netip.Addr) netip.Addr {
	a := v6.As16()
	var v [4]byte
	at := prefix.Bits() / 8
	for i := range v {
		if at == 8 {
			at++
		}
		v[i] = a[at]
		at++
	}
	return netip.AddrFrom4(v)
}
