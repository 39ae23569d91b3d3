package engine

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tnat64d/siit"
)

// The addresses of all tests: a CLAT behind the well-known prefix.
var (
	pref64 = netip.MustParsePrefix("64:ff9b::/96")
	clat4  = netip.MustParseAddr("192.0.0.1")
	clat6  = netip.MustParseAddr("2001:db8::c1a7")
	host4  = netip.MustParseAddr("198.51.100.1")          // on the IPv4 internet
	host6  = netip.MustParseAddr("64:ff9b::198.51.100.1") // the same, as the CLAT sees it
)

// newTranslator returns the CLAT of a host whose IPv6 address is v6.
func newTranslator(t testing.TB, v6 netip.Addr) *siit.Translator {
	t.Helper()
	tr, err := siit.New(siit.Config{Mapping: siit.Mapping{PREF64: pref64, CLAT: siit.Pair{IPv4: clat4, IPv6: v6}}})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// udp4 returns an IPv4 UDP packet from the CLAT to host4, behind headroom.
func udp4(payload []byte, ttl uint8) []byte {
	n := header.IPv4MinimumSize + header.UDPMinimumSize + len(payload)
	buf := make([]byte, siit.Headroom+n)
	ip := header.IPv4(buf[siit.Headroom:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(n), ID: 1, TTL: ttl, Protocol: uint8(header.UDPProtocolNumber),
		SrcAddr: tcpip.AddrFrom4(clat4.As4()), DstAddr: tcpip.AddrFrom4(host4.As4()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	udp := header.UDP(ip.Payload())
	udp.Encode(&header.UDPFields{SrcPort: 1000, DstPort: 2000, Length: uint16(header.UDPMinimumSize + len(payload))})
	copy(udp.Payload(), payload)
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), udp.Length())
	udp.SetChecksum(^udp.CalculateChecksum(checksum.Checksum(payload, sum)))
	return buf
}

// udp6 returns an IPv6 UDP packet from host6 to dst, behind headroom.
func udp6(payload []byte, dst netip.Addr) []byte {
	n := header.UDPMinimumSize + len(payload)
	buf := make([]byte, siit.Headroom+header.IPv6MinimumSize+n)
	ip := header.IPv6(buf[siit.Headroom:])
	ip.Encode(&header.IPv6Fields{
		PayloadLength: uint16(n), TransportProtocol: header.UDPProtocolNumber, HopLimit: 64,
		SrcAddr: tcpip.AddrFrom16(host6.As16()), DstAddr: tcpip.AddrFrom16(dst.As16()),
	})
	udp := header.UDP(ip.Payload())
	udp.Encode(&header.UDPFields{SrcPort: 2000, DstPort: 1000, Length: uint16(n)})
	copy(udp.Payload(), payload)
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), udp.Length())
	udp.SetChecksum(^udp.CalculateChecksum(checksum.Checksum(payload, sum)))
	return buf
}

// tcp4 returns an IPv4 TCP super-packet of the CLAT, as the kernel hands it to
// a TUN: with only the pseudo-header in its checksum.
func tcp4(payload []byte) (buf []byte, o siit.Offload) {
	n := header.IPv4MinimumSize + header.TCPMinimumSize + len(payload)
	buf = make([]byte, siit.Headroom+n)
	ip := header.IPv4(buf[siit.Headroom:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(n), ID: 1, TTL: 64, Protocol: uint8(header.TCPProtocolNumber), Flags: header.IPv4FlagDontFragment,
		SrcAddr: tcpip.AddrFrom4(clat4.As4()), DstAddr: tcpip.AddrFrom4(host4.As4()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	tcp := header.TCP(ip.Payload())
	tcp.Encode(&header.TCPFields{SrcPort: 1000, DstPort: 2000, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagAck})
	copy(tcp.Payload(), payload)
	tcp.SetChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(ip.Payload()))))
	return buf, siit.Offload{
		Flags: siit.NeedsCsum, GSOType: siit.GSOTCPv4, HdrLen: 40, GSOSize: 1440,
		CsumStart: header.IPv4MinimumSize, CsumOffset: header.TCPChecksumOffset,
	}
}
