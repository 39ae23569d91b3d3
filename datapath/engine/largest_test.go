package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"tnat64d/siit"
	"tnat64d/tun"
)

// The largest messages that IPv4 can carry pass in both directions, in pieces
// of any size and behind headers of any size, also while they are traced.
// `ping -s 65507` sends 65,515 bytes of ICMP.
func TestLargestEcho(t *testing.T) {
	withOptions := func(p []byte) []byte { // 40 bytes of No Operation
		q := append(bytes.Clone(p[:20]), bytes.Repeat([]byte{1}, 40)...)
		q[0] = 0x4f
		binary.BigEndian.PutUint16(q[2:], uint16(len(p)+40))
		return append(q, p[20:]...)
	}
	withExtension := func(p []byte) []byte { // Destination Options, 264 bytes
		q := append(bytes.Clone(p[:40]), make([]byte, 264)...)
		q[6], q[40], q[41], q[42], q[43] = 60, 44, 32, 1, 255
		q[44+255] = 1 // PadN of 255 bytes, then one of 3
		q[44+256] = 1
		binary.BigEndian.PutUint16(q[4:], uint16(len(p)-40+264))
		return append(q, p[40:]...)
	}
	same := func(p []byte) []byte { return p }
	for _, tt := range []struct {
		name   string
		size   int
		change func([]byte) []byte
	}{
		{"IPv4 pieces of 1,456 bytes", 1456, same},
		{"IPv4 pieces of 1,416 bytes with options", 1416, withOptions},
		{"IPv4 pieces of 32 KiB", 32 << 10, same},
		{"IPv6 pieces of 1,232 bytes", 1232, same},
		{"IPv6 pieces of 32 KiB", 32 << 10, same},
		{"IPv6 pieces of 65,232 bytes with an extension", 65232, withExtension},
	} {
		for _, n := range []int{65481, 65488, 65489, 65500, 65514, 65515} { // of ICMP
			t.Run(fmt.Sprintf("%s, %d", tt.name, n), func(t *testing.T) {
				e, kernels := start(t, 1, Options{})
				k := kernels[0]
				e.SetTrace(func(s Seen) {
					if h, ok := siit.ParseHeader(s.Packet); !ok || h.Total != len(s.Packet) {
						t.Errorf("traced a packet of %d bytes that says %d", len(s.Packet), h.Total)
					}
				})
				echo := make([]byte, n)
				for i := range echo[8:] {
					echo[8+i] = byte(i * 7)
				}
				to6 := tt.name[3] == '4'
				var list [][]byte
				if to6 {
					echo[0] = 8
					binary.BigEndian.PutUint16(echo[2:], ^siit.Sum(echo, 0))
					list = pieces(echo, tt.size, func(off int, more bool, d []byte) []byte {
						b := fragment4(9, off, more, d)
						copy(b[16:], host4.AsSlice())
						b = tt.change(b)
						binary.BigEndian.PutUint16(b[10:], ^siit.Sum(b[:4*int(b[0]&15)], 0))
						return b
					})
				} else {
					echo[0] = 129
					pseudo := append(host6.AsSlice(), clat6.AsSlice()...)
					pseudo = append(binary.BigEndian.AppendUint32(pseudo, uint32(n)), 0, 0, 0, 58)
					binary.BigEndian.PutUint16(echo[2:], ^siit.Sum(append(pseudo, echo...), 0))
					list = pieces(echo, tt.size, func(off int, more bool, d []byte) []byte {
						b := fragment6(9, off, more, d)
						copy(b[8:], host6.AsSlice())
						copy(b[24:], clat6.AsSlice())
						return tt.change(b)
					})
				}
				for _, p := range list {
					k.send(t, append(make([]byte, siit.Headroom), p...), tun.VnetHeader{})
				}
				var got []byte
				for more := true; more; {
					p, _ := k.receive(t)
					h, ok := siit.ParseHeader(p)
					if !ok || to6 != (h.Version == 6) || h.Offset != len(got) || len(p) > 1480 {
						t.Fatalf("not the next fragment: % x", p[:min(len(p), 48)])
					}
					got, more = append(got, p[h.Len:]...), h.More
				}
				if len(got) != n || !bytes.Equal(got[4:], echo[4:]) {
					t.Errorf("%d bytes came out, or others than went in", len(got))
				}
			})
		}
	}
}

// A TUN hands out whatever an IP header can say, and siit is to judge it.
func TestBufferHoldsTheLargestPackets(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    []byte
		want siit.Reason
	}{
		{"IPv4, 65,535 bytes", udp4(make([]byte, 65507), 64), siit.None},
		{"IPv6, 65,535 bytes of payload", udp6(make([]byte, 65527), clat6), siit.TooBig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, ks := build(t, 1, Options{ICMPErrorsPerSecond: 1 << 30})
			ks[0].send(t, tt.p, tun.VnetHeader{})
			if err := e.workers[0].step(); err != nil {
				t.Fatal(err)
			}
			s := e.Stats()
			if tt.want == siit.None && s.To6.Total().Packets != 1 || tt.want != siit.None && s.Drops[tt.want] != 1 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}
