package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"tnat64d/siit"
)

// cut4 cuts an IPv4 packet into fragments with so many bytes of payload.
func cut4(p []byte, size int, id uint16) (in []frame) {
	payload := p[20:]
	for off := 0; off < len(payload); off += size {
		n := min(size, len(payload)-off)
		b := append(bytes.Clone(p[:20]), payload[off:off+n]...)
		flags := uint16(off / 8)
		if off+n < len(payload) {
			flags |= 0x2000
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[4:], id)
		binary.BigEndian.PutUint16(b[6:], flags)
		fixSum(b)
		in = append(in, frame{b: b})
	}
	return in
}

// cut6 is cut4 for IPv6.
func cut6(p []byte, size int, id uint32) (in []frame) {
	payload := p[40:]
	for off := 0; off < len(payload); off += size {
		n := min(size, len(payload)-off)
		b := append(bytes.Clone(p[:40]), p[6], 0, 0, 0)
		b = append(binary.BigEndian.AppendUint32(b, id), payload[off:off+n]...)
		flags := uint16(off)
		if off+n < len(payload) {
			flags |= 1
		}
		b[6] = 44
		binary.BigEndian.PutUint16(b[4:], uint16(8+n))
		binary.BigEndian.PutUint16(b[42:], flags)
		in = append(in, frame{b: b})
	}
	return in
}

func fixSum(b []byte) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^siit.Sum(b[:20], 0))
}

func bytesOf(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n+7)
	for i := 0; i < n; i += 8 {
		binary.BigEndian.PutUint64(b[i:], rnd.Uint64())
	}
	return b[:n]
}

// reassemble puts the UDP datagrams of each source port together, from fragments
// in order.
func reassemble(t *testing.T, out []frame) (byPort map[uint16][]byte) {
	t.Helper()
	byPort = map[uint16][]byte{}
	ports := map[uint32]uint16{} // by identification
	for _, f := range out {
		h, ok := siit.ParseHeader(f.b)
		if !ok || h.Total != len(f.b) {
			t.Fatalf("not a packet: % x", f.b[:min(len(f.b), 60)])
		}
		if h.Version == 4 && siit.Sum(f.b[:20], 0) != 0xffff {
			t.Fatalf("wrong checksum: % x", f.b[:20])
		}
		port := ports[h.ID]
		if h.Offset == 0 {
			port = binary.BigEndian.Uint16(f.b[h.Len:])
			if h.Fragment {
				ports[h.ID] = port
			}
		}
		if h.Offset != len(byPort[port]) {
			t.Fatalf("port %d: offset %d, want %d", port, h.Offset, len(byPort[port]))
		}
		byPort[port] = append(byPort[port], f.b[h.Len:]...)
	}
	return byPort
}

// A datagram of 8 KB takes as few packets in the other IP version as it can.
func TestFragmentsAreJoined(t *testing.T) {
	payload := bytesOf(rand.New(rand.NewPCG(1, 1)), 8192)
	t.Run("to IPv6", func(t *testing.T) {
		in := cut4(udp4(payload, 64)[siit.Headroom:], 1456, 4711)
		out, e := through(t, in, nil)
		if len(in) != 6 || len(out) != 7 {
			t.Errorf("%d fragments became %d, want 6 and 7", len(in), len(out))
		}
		for _, f := range out {
			if id := binary.BigEndian.Uint32(f.b[44:]); len(f.b) > 1280 || f.b[7] != 63 || id != 4711 {
				t.Errorf("a packet of %d bytes with hop limit %d, identification %d", len(f.b), f.b[7], id)
			}
		}
		if got := reassemble(t, out)[1000]; len(got) != 8200 || !bytes.Equal(got[8:], payload) {
			t.Errorf("%d bytes came out, or others than went in", len(got))
		}
		if want := (Stats{To6: Translated{UDP: {6, 6*20 + 8200}}}); e.Stats() != want {
			t.Errorf("stats %+v, want %+v", e.Stats(), want)
		}
	})
	t.Run("to IPv4", func(t *testing.T) {
		in := cut6(udp6(payload, clat6)[siit.Headroom:], 1232, 0x10000+4711)
		out, e := through(t, in, nil)
		if len(in) != 7 || len(out) != 1 {
			t.Fatalf("%d fragments became %d, want 7 and 1", len(in), len(out))
		}
		if b := out[0].b; binary.BigEndian.Uint32(b[4:]) != 4711<<16 || b[8] != 63 {
			t.Errorf("header % x, want identification 4711, no flags and TTL 63", b[:20])
		}
		if got := reassemble(t, out)[2000]; len(got) != 8200 || !bytes.Equal(got[8:], payload) {
			t.Errorf("%d bytes came out, or others than went in", len(got))
		}
		if n := e.Stats().To4.Total().Packets; n != 7 {
			t.Errorf("%d packets were counted, want 7", n)
		}
	})
	t.Run("to IPv4, in two parts", func(t *testing.T) {
		in := cut6(udp6(payload, clat6)[siit.Headroom:], 1232, 0x10000+4711)
		out, _ := through(t, slices.Insert(in, 3, cut6(udp6(payload, clat6)[siit.Headroom:], 1232, 4712)[0]), nil)
		if len(out) != 3 {
			t.Errorf("7 fragments with another between became %d, want 3", len(out))
		}
	})
}

// What does not belong together, or is not in order, is translated piece by piece.
func TestFragmentsAreNotJoined(t *testing.T) {
	fresh := func() []frame {
		return cut4(udp4(bytesOf(rand.New(rand.NewPCG(2, 2)), 1900), 64)[siit.Headroom:], 1000, 9)
	}
	change := func(i int, f func(b []byte)) func([]frame) []frame {
		return func(in []frame) []frame {
			f(in[i].b)
			fixSum(in[i].b)
			return in
		}
	}
	for _, tt := range []struct {
		name   string
		change func([]frame) []frame
	}{
		{"other TOS", change(1, func(b []byte) { b[1] = 3 })},
		{"other TTL", change(1, func(b []byte) { b[8]-- })},
		{"other identification", change(1, func(b []byte) { b[5]++ })},
		{"other protocol", change(1, func(b []byte) { b[9] = 50 })},
		{"other destination", change(1, func(b []byte) { b[19]++ })},
		{"gap", change(1, func(b []byte) { b[7]++ })},
		{"overlap", change(1, func(b []byte) { b[7]-- })},
		{"DF", change(1, func(b []byte) { b[6] |= 0x40 })},
		{"wrong header checksum", func(in []frame) []frame { in[1].b[10] ^= 1; return in }},
		{"no UDP checksum", change(0, func(b []byte) { b[26], b[27] = 0, 0 })},
		{"out of order", func(in []frame) []frame { in[0], in[1] = in[1], in[0]; return in }},
		{"twice", func(in []frame) []frame { return []frame{in[0], in[0], in[0]} }},
		{"another first before", func(in []frame) []frame { return []frame{in[0], in[0], in[1]} }},
		{"short first before", func(in []frame) []frame {
			short := frame{b: bytes.Clone(in[0].b[:20+8])}
			short.b[2], short.b[3] = 0, 20+8
			fixSum(short.b)
			return []frame{short, in[0], in[1]}
		}},
		{"last before", func(in []frame) []frame { return []frame{in[1], in[0], in[1]} }},
		{"bytes behind the packet", func(in []frame) []frame { in[1].b = append(in[1].b, 0); return in }},
		{"another packet between", func(in []frame) []frame { return []frame{in[0], udpFrames(1, 10)[0], in[1]} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, e := through(t, tt.change(fresh()), nil)
			single := alone(t, tt.change(fresh()))
			if len(out) != len(single) {
				t.Fatalf("%d packets came out, want %d", len(out), len(single))
			}
			for i, f := range single {
				if !bytes.Equal(out[i].b, f.b) {
					t.Errorf("packet %d:\n% x, want\n% x", i, out[i].b[:60], f.b[:60])
				}
			}
			if s := e.Stats(); s.WriteErrors != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
	t.Run("traced", func(t *testing.T) {
		q := &script{in: fresh()}
		e, _ := build(t, 0, Options{Queues: []Queue{q}})
		seen := 0
		e.SetTrace(func(s Seen) { seen += len(s.Packet) })
		in := fresh()
		e.workers[0].run()
		if want := len(in[0].b) + len(in[1].b); seen != want {
			t.Errorf("%d bytes were traced, want the %d that were read", seen, want)
		}
	})
}

// A receiver ignores a fragment that lies within what it has, and drops the datagram
// for one that overlaps in part.
func TestFragmentTwiceOverlapsNoOther(t *testing.T) {
	for version, in := range map[string][]frame{
		"IPv4": cut4(udp4(bytesOf(rand.New(rand.NewPCG(4, 4)), 3900), 64)[siit.Headroom:], 1000, 9),
		"IPv6": cut6(udp6(bytesOf(rand.New(rand.NewPCG(4, 4)), 3900), clat6)[siit.Headroom:], 1000, 9),
	} {
		for twice := range in {
			for again := twice + 1; again <= len(in); again++ { // after which fragment
				t.Run(fmt.Sprintf("%s/%d/%d", version, twice, again), func(t *testing.T) {
					out, _ := through(t, slices.Insert(slices.Clone(in), again, frame{b: bytes.Clone(in[twice].b)}), nil)
					have := 0 // bytes without a gap
					for _, f := range out {
						h, ok := siit.ParseHeader(f.b)
						if end := h.Offset + len(f.b) - h.Len; !ok || h.Offset != have && end > have {
							t.Errorf("bytes %d to %d follow %d", h.Offset, end, have)
						}
						have = max(have, h.Offset+len(f.b)-h.Len)
					}
					if have != 3908 {
						t.Errorf("%d bytes came out, want 3908", have)
					}
				})
			}
		}
	}
}

// Datagrams cut anyhow, mixed with each other and found in batches of any size,
// arrive as they were, and in order.
func TestJoinedFragmentsAreIntact(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			want := map[uint16][]byte{}
			var in []frame
			var waiting [][]frame
			for id := range uint16(60) {
				size := 600 + rnd.IntN(9000)
				if rnd.IntN(10) == 0 {
					size = 60000 + rnd.IntN(5400)
				}
				payload := bytesOf(rnd, size)
				want[id+1] = payload
				var cut []frame
				if chunk := 8 * (8 + rnd.IntN(176)); rnd.IntN(2) == 0 {
					p := udp4(payload, 64)[siit.Headroom:]
					binary.BigEndian.PutUint16(p[20:], id+1)
					p[26] |= 1 // 0 would say that there is no checksum
					cut = cut4(p, chunk, id+1)
				} else {
					p := udp6(payload, clat6)[siit.Headroom:]
					binary.BigEndian.PutUint16(p[40:], id+1)
					p[46] |= 1
					cut = cut6(p, chunk, uint32(id)+1)
				}
				waiting = append(waiting, cut)
				for len(waiting) > rnd.IntN(3) { // two or three at a time
					i := rnd.IntN(len(waiting))
					n := min(len(waiting[i]), 1+rnd.IntN(12))
					in = append(in, waiting[i][:n]...)
					if waiting[i] = waiting[i][n:]; len(waiting[i]) == 0 {
						waiting = append(waiting[:i], waiting[i+1:]...)
					}
				}
			}
			for _, rest := range waiting {
				in = append(in, rest...)
			}
			pause := 1 + rnd.IntN(50)
			out, _ := through(t, in, func() bool { return rnd.IntN(pause) == 0 })
			got := reassemble(t, out)
			for id, payload := range want {
				if len(got[id]) < 8 || !bytes.Equal(got[id][8:], payload) {
					t.Fatalf("datagram %d: %d bytes came out of %d, or others", id, len(got[id])-8, len(payload))
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d datagrams came out, want %d", len(got), len(want))
			}
		})
	}
}

func TestJoiningFragmentsDoesNotAllocate(t *testing.T) {
	payload := make([]byte, 8192)
	in := cut4(udp4(payload, 64)[siit.Headroom:], 1456, 1)
	in = append(in, cut6(udp6(payload, clat6)[siit.Headroom:], 1232, 2)...)
	discard := &discarding{}
	e, _ := build(t, 0, Options{Queues: []Queue{discard}, UDPSegments: true})
	w := e.workers[0]
	allocs := testing.AllocsPerRun(20, func() {
		discard.in = in
		for len(discard.in) > 0 {
			w.step()
		}
		w.flush()
	})
	if allocs != 0 {
		t.Errorf("%v allocations for %d fragments", allocs, len(in))
	}
}

// A batch says how many of its packets are fragments, and whether the queue was empty
// behind it.
func TestBatchCountsFragments(t *testing.T) {
	in := cut4(udp4(bytesOf(rand.New(rand.NewPCG(3, 3)), 8192), 64)[siit.Headroom:], 1456, 1)
	in = append(in, udpFrames(60, 10)...)
	in = append(in, cut6(udp6(bytesOf(rand.New(rand.NewPCG(4, 4)), 8192), clat6)[siit.Headroom:], 1232, 2)...)
	var got []Batch
	e, _ := build(t, 0, Options{Queues: []Queue{&script{in: in}}, OnFinished: func(_ int, b Batch) { got = append(got, b) }})
	e.workers[0].run()
	var sum Batch
	for i, b := range got {
		if b.Packets > maxBatch || b.Emptied != (b.Packets < maxBatch) {
			t.Errorf("batch %d: %+v", i, b)
		}
		sum.Packets += b.Packets
		sum.Fragments += b.Fragments
	}
	if want := (Batch{Packets: 6 + 60 + 7, Fragments: 6 + 7}); sum != want || len(got) != 2 {
		t.Errorf("batches %+v, want two with %+v together", got, want)
	}
}
