package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket/layers"
)

// describe summarises an IP packet in a few words: version, protocol, who to
// whom, size. It shows what the bytes say, also where they are wrong.
func describe(ip []byte) string { return describeCut(ip, len(ip)) }

// describeCut is describe for the first bytes of a packet of n.
func describeCut(ip []byte, n int) string {
	var src, dst netip.Addr
	var rest []byte // from the transport header on
	var proto layers.IPProtocol
	offset := 0 // of the fragment, in bytes
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4:
		src, dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
		proto = layers.IPProtocol(ip[9])
		offset = int(binary.BigEndian.Uint16(ip[6:])&0x1fff) * 8
		rest = ip[min(int(ip[0]&15)*4, len(ip)):]
	case len(ip) >= 40 && ip[0]>>4 == 6:
		src, dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
		proto, offset, rest = skipExtensions(layers.IPProtocol(ip[6]), ip[40:])
	case len(ip) > 0 && (ip[0]>>4 == 4 || ip[0]>>4 == 6):
		return fmt.Sprintf("IPv%d, cut short, %d bytes", ip[0]>>4, n)
	case len(ip) > 0:
		return fmt.Sprintf("no IP packet, %d bytes", n)
	default:
		return "no IP packet"
	}

	what, from, to := name(proto), src.String(), dst.String()
	switch proto {
	case layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolUDPLite, layers.IPProtocolSCTP:
		if offset == 0 && len(rest) >= 4 {
			from = netip.AddrPortFrom(src, binary.BigEndian.Uint16(rest)).String()
			to = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(rest[2:])).String()
		}
	case layers.IPProtocolICMPv4:
		if offset == 0 && len(rest) >= 2 {
			what += " " + layers.CreateICMPv4TypeCode(rest[0], rest[1]).String()
		}
	case layers.IPProtocolICMPv6:
		if offset == 0 && len(rest) >= 2 {
			what += " " + layers.CreateICMPv6TypeCode(rest[0], rest[1]).String()
		}
	}
	if offset > 0 {
		what += fmt.Sprintf(" fragment at %d", offset)
	}
	return fmt.Sprintf("IPv%d %s %s > %s, %d bytes", ip[0]>>4, what, from, to, n)
}

// name is what people call a protocol.
func name(p layers.IPProtocol) string {
	if p == layers.IPProtocolICMPv4 {
		return "ICMP"
	}
	if s := p.String(); !strings.HasPrefix(s, "Unknown") {
		return s
	}
	return fmt.Sprintf("protocol %d", p)
}

// skipExtensions walks from an IPv6 header over the extension headers.
func skipExtensions(proto layers.IPProtocol, b []byte) (next layers.IPProtocol, offset int, rest []byte) {
	for len(b) >= 8 {
		switch proto {
		case layers.IPProtocolIPv6Fragment:
			if offset = int(binary.BigEndian.Uint16(b[2:]) &^ 7); offset > 0 {
				return layers.IPProtocol(b[0]), offset, nil
			}
			proto, b = layers.IPProtocol(b[0]), b[8:]
		case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Destination:
			proto, b = layers.IPProtocol(b[0]), b[min(8+8*int(b[1]), len(b)):]
		default:
			return proto, offset, b
		}
	}
	return proto, offset, b
}
