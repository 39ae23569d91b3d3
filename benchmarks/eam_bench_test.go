package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tnat64d/siit"
)

// BenchmarkEAM translates a UDP packet with tables of explicit address mappings
// (RFC 7757) of growing length. "hit" are packets to 1,024 different entries,
// spread over the table; "miss" are packets to addresses that are in no entry
// and go through PREF64 in the end.
func BenchmarkEAM(b *testing.B) {
	for _, entries := range []int{0, 10, 100, 1_000, 10_000, 100_000} {
		for _, hit := range []bool{false, true} {
			if hit && entries == 0 {
				continue
			}
			name := "miss"
			if hit {
				name = "hit"
			}
			b.Run(fmt.Sprintf("%s/%d", name, entries), func(b *testing.B) { benchmarkEAM(b, entries, hit) })
		}
	}
}

func benchmarkEAM(b *testing.B, entries int, hit bool) {
	clat := netip.MustParseAddr("192.0.0.1")
	cfg := siit.Config{Mapping: siit.Mapping{PREF64: pref64, CLAT: siit.Pair{IPv4: clat, IPv6: netip.MustParseAddr("2001:db8:1::c1a7")}}}
	entry := func(i int) netip.Addr { // one of 198.18.0.0/15
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0xc6120000+uint32(i))
		return netip.AddrFrom4(a)
	}
	for i := range entries {
		six := netip.MustParseAddr("2001:db8:ea::").As16()
		binary.BigEndian.PutUint32(six[12:], uint32(i))
		cfg.Mapping.EAM = append(cfg.Mapping.EAM, siit.EAM{IPv4: netip.PrefixFrom(entry(i), 32), IPv6: netip.PrefixFrom(netip.AddrFrom16(six), 128)})
	}
	tr, err := siit.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	const length = header.IPv4MinimumSize + header.UDPMinimumSize + 64
	packets := make([][]byte, 1024)
	for i := range packets {
		to := netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})
		if hit {
			to = entry(i * 7919 % entries) // 7919 is prime: no order
		}
		p := make([]byte, length)
		ip := header.IPv4(p)
		ip.Encode(&header.IPv4Fields{TotalLength: length, TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: tcpip.AddrFrom4(clat.As4()), DstAddr: tcpip.AddrFrom4(to.As4())})
		ip.SetChecksum(^ip.CalculateChecksum())
		header.UDP(p[header.IPv4MinimumSize:]).Encode(&header.UDPFields{SrcPort: 4711, DstPort: 53, Length: header.UDPMinimumSize + 64, Checksum: 1})
		packets[i] = p
	}
	scratch := siit.NewScratch(1)
	mem := make([]byte, siit.Headroom+length)
	p := siit.Packet{Buf: mem, Off: siit.Headroom}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		copy(mem[siit.Headroom:], packets[i%len(packets)])
		if res := tr.Translate(scratch, p); res.Verdict != siit.Translated {
			b.Fatalf("%v %v", res.Verdict, res.Reason)
		}
	}
}
