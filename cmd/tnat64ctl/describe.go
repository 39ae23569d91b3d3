package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket/layers"

	"tnat64d/siit"
)

// describe summarises an IP packet: version, protocol, source, destination,
// size. It shows the fields as they are, even where they are wrong.
func describe(ip []byte) string { return describeCut(ip, len(ip)) }

// describeCut is describe for the first bytes of a packet of n.
func describeCut(ip []byte, n int) string {
	h, _ := siit.ParseHeader(ip)
	switch {
	case h.Version != 0:
	case len(ip) == 0:
		return "not an IP packet"
	case ip[0]>>4 == 4 || ip[0]>>4 == 6:
		return fmt.Sprintf("IPv%d, truncated, %d bytes", ip[0]>>4, n)
	default:
		return fmt.Sprintf("not an IP packet, %d bytes", n)
	}
	proto, src, dst := layers.IPProtocol(h.Protocol), h.Src, h.Dst
	rest := ip[min(h.Len, len(ip)):] // from the transport header on

	what, from, to := name(proto), src.String(), dst.String()
	switch proto {
	case layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolUDPLite, layers.IPProtocolSCTP:
		if h.Offset == 0 && len(rest) >= 4 {
			from = netip.AddrPortFrom(src, binary.BigEndian.Uint16(rest)).String()
			to = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(rest[2:])).String()
		}
	case layers.IPProtocolICMPv4:
		if h.Offset == 0 && len(rest) >= 2 {
			what += " " + layers.CreateICMPv4TypeCode(rest[0], rest[1]).String()
		}
	case layers.IPProtocolICMPv6:
		if h.Offset == 0 && len(rest) >= 2 {
			what += " " + layers.CreateICMPv6TypeCode(rest[0], rest[1]).String()
		}
	}
	if h.Offset > 0 {
		what += fmt.Sprintf(" fragment at %d", h.Offset)
	}
	return fmt.Sprintf("IPv%d %s %s > %s, %d bytes", h.Version, what, from, to, n)
}

// name returns the usual name of a protocol.
func name(p layers.IPProtocol) string {
	if p == layers.IPProtocolICMPv4 {
		return "ICMP"
	}
	if s := p.String(); !strings.HasPrefix(s, "Unknown") {
		return s
	}
	return fmt.Sprintf("protocol %d", p)
}
