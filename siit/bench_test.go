package siit_test

import (
	"testing"

	"tnat64d/siit"
)

// Each iteration translates a fresh packet: only the bytes that the previous
// one wrote over are put back, so that the 64 KiB super-packet can be compared
// with the 64-byte packet. TCP1500 is as long as the IPv4 side takes it.

func Benchmark4to6(b *testing.B) {
	segment := func(n int) []byte { return tcp(clat4, remote4, 0x10, nil, data(n-40)) }
	big, bigOff := super{to6: true, proto: protoTCP, size: 1400, payload: 65000, partial: true, df: true, mapping: hostConfig().Mapping}.packet()
	benchmark(b, "TCP64", ip4{df: true, proto: protoTCP, payload: segment(64)}.bytes(), siit.Offload{})
	benchmark(b, "TCP1500", ip4{df: true, proto: protoTCP, payload: segment(1480)}.bytes(), siit.Offload{})
	benchmark(b, "TCP64KiB", big, bigOff)
	benchmark(b, "UDP", udp4(200, true), siit.Offload{})
	benchmark(b, "ICMPError", error4(3, 3, 0, received4(60)), siit.Offload{})
	benchmark(b, "Fragment", ip4{mf: true, payload: udp(clat4, remote4, data(1192))}.bytes(), siit.Offload{})
}

func Benchmark6to4(b *testing.B) {
	segment := func(n int) []byte { return tcp(remote6, clat6, 0x10, nil, data(n-60)) }
	big, bigOff := super{proto: protoTCP, size: 1400, payload: 65000, partial: true, mapping: hostConfig().Mapping}.packet()
	benchmark(b, "TCP64", ip6{proto: protoTCP, payload: segment(64)}.bytes(), siit.Offload{})
	benchmark(b, "TCP1500", ip6{proto: protoTCP, payload: segment(1500)}.bytes(), siit.Offload{})
	benchmark(b, "TCP64KiB", big, bigOff)
	benchmark(b, "UDP", udp6(200), siit.Offload{})
	benchmark(b, "ICMPError", error6(remote6, 1, 4, 0, sent6(60)), siit.Offload{})
	benchmark(b, "Fragment", ip6{ext: []extension{fragment(9, 0, true)}, payload: udp(remote6, clat6, data(1192))}.bytes(), siit.Offload{})
}

func benchmark(b *testing.B, name string, in []byte, off siit.Offload) {
	b.Run(name, func(b *testing.B) {
		tr, err := siit.New(hostConfig())
		if err != nil {
			b.Fatal(err)
		}
		scratch := siit.NewScratch(1)
		mem := make([]byte, siit.Headroom+len(in))
		packet := mem[siit.Headroom:]
		copy(packet, in)
		p := siit.Packet{Buf: mem, Off: siit.Headroom, Offload: off}
		// What Translate may write in place: the headers, and all of an
		// ICMP error.
		dirty := in[:min(len(in), 128)]
		b.SetBytes(int64(len(in)))
		b.ReportAllocs()
		for b.Loop() {
			copy(packet, dirty)
			if res := tr.Translate(scratch, p); res.Verdict != siit.Translated || len(res.Packets) != 1 {
				b.Fatalf("%v %v", res.Verdict, res.Reason)
			}
		}
	})
}
