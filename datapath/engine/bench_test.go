package engine

import (
	"testing"

	"tnat64d/siit"
	"tnat64d/tun"
)

// What the engine itself costs for a packet of 1000 bytes: compare before and
// after a change to the loop.
func BenchmarkStep(b *testing.B) {
	for _, bb := range []struct {
		name string
		p    []byte
	}{
		{"4to6", udp4(make([]byte, 1000), 64)},
		{"6to4", udp6(make([]byte, 1000), clat6)},
		{"drop", make([]byte, siit.Headroom+10)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			e, ks := build(b, 1, Options{})
			w, k := e.workers[0], ks[0]
			b.ReportAllocs()
			for b.Loop() {
				k.send(b, bb.p, tun.VnetHeader{})
				if err := w.step(); err != nil {
					b.Fatal(err)
				}
				w.flush()
				if bb.name != "drop" {
					k.receive(b)
				}
			}
		})
	}
}
