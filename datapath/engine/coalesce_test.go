package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"

	"tnat64d/siit"
	"tnat64d/tun"
)

// frame is a packet with its virtio-net header.
type frame struct {
	b []byte
	h tun.VnetHeader
}

// script is a queue that hands out frames, is found empty when it is told to,
// and keeps what is written.
type script struct {
	in      []frame
	empty   func() bool // asked before each frame
	out     []frame
	refuse  error // of Write
	packets int   // handed out
}

func (q *script) ReadIdle(buf []byte, off int, idle func()) (int, tun.VnetHeader, error) {
	if len(q.in) == 0 || q.empty != nil && q.empty() {
		idle()
	}
	if len(q.in) == 0 {
		return 0, tun.VnetHeader{}, os.ErrClosed
	}
	f := q.in[0]
	q.in = q.in[1:]
	q.packets++
	return copy(buf[off:], f.b), f.h, nil
}

func (q *script) Write(buf []byte, off int, h tun.VnetHeader) error {
	q.out = append(q.out, frame{bytes.Clone(buf[off:]), h})
	return q.refuse
}

func (q *script) Close() error     { return nil }
func (q *script) Interrupt() error { return nil }

// through returns what an engine writes that reads in.
func through(t testing.TB, in []frame, empty func() bool) (out []frame, e *Engine) {
	t.Helper()
	q := &script{in: in, empty: empty}
	e, _ = build(t, 0, Options{Queues: []Queue{q}, UDPSegments: true})
	e.workers[0].run()
	return q.out, e
}

// alone returns what the translator makes of each packet by itself.
func alone(t testing.TB, in []frame) (out []frame) {
	tr, s := newTranslator(t, clat6), siit.NewScratch(1)
	for _, f := range in {
		r := tr.Translate(s, siit.Packet{Buf: append(make([]byte, siit.Headroom), f.b...), Off: siit.Headroom, Offload: siit.Offload(f.h)})
		if r.Verdict != siit.Translated {
			continue
		}
		for _, p := range r.Packets {
			out = append(out, frame{bytes.Clone(p.Bytes()), tun.VnetHeader(p.Offload)})
		}
	}
	return out
}

// view says where things are in a translated packet.
type view struct {
	b        []byte
	v6       bool
	l4       int
	protocol byte
	fragment bool
}

func viewOf(b []byte) view {
	if b[0]>>4 == 6 {
		v := view{b: b, v6: true, l4: 40, protocol: b[6]}
		if b[6] == 44 {
			v.fragment, v.l4, v.protocol = true, 48, b[40]
		}
		return v
	}
	return view{b: b, l4: 20, protocol: b[9], fragment: binary.BigEndian.Uint16(b[6:])&0x3fff != 0}
}

func (v view) pair() string {
	if v.v6 {
		return string(v.b[8:40])
	}
	return string(v.b[12:20])
}

// flow returns addresses, protocol and ports, "" if they cannot be told.
func (v view) flow() string {
	if v.fragment || v.protocol != 6 && v.protocol != 17 {
		return ""
	}
	return v.pair() + string(v.protocol) + string(v.b[v.l4:v.l4+4])
}

// sum computes the transport checksum anew, byte by byte.
func (v view) sum() uint16 {
	payload := v.b[v.l4:]
	words := append([]byte(v.pair()), 0, v.protocol, byte(len(payload)>>8), byte(len(payload)))
	words = append(words, payload...)
	sum := uint32(0)
	for i, c := range words {
		sum += uint32(c) << (8 * (1 - i%2))
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func (v view) checksumField() []byte {
	if v.protocol == 6 {
		return v.b[v.l4+16 : v.l4+18]
	}
	return v.b[v.l4+6 : v.l4+8]
}

// segments cuts a super-packet as the kernel does, completes what is left to be
// computed, and clears the identification of unfragmented IPv4, which it
// returns apart. It refuses virtio-net headers that a kernel refuses.
func (f frame) segments() (list [][]byte, ids []uint16, err error) {
	v := viewOf(f.b)
	h := f.h
	var cut [][]byte
	if h.GSOType == siit.GSONone {
		cut = [][]byte{bytes.Clone(f.b)}
	} else {
		want := map[byte]uint8{6: siit.GSOTCPv4, 17: siit.GSOUDPL4}[v.protocol]
		head, field := v.l4+8, uint16(6)
		if v.protocol == 6 {
			head, field = v.l4+int(f.b[v.l4+12]>>4)*4, 16
			if v.v6 {
				want = siit.GSOTCPv6
			}
		}
		if h.GSOType != want || h.Flags != siit.NeedsCsum || int(h.CsumStart) != v.l4 || h.CsumOffset != field || int(h.HdrLen) != head || h.GSOSize == 0 {
			return nil, nil, fmt.Errorf("%+v does not fit % x", h, f.b[:head])
		}
		for done := 0; done < len(f.b)-head; done += int(h.GSOSize) {
			n := min(int(h.GSOSize), len(f.b)-head-done)
			s := append(bytes.Clone(f.b[:head]), f.b[head+done:head+done+n]...)
			i := done / int(h.GSOSize)
			if v.v6 {
				binary.BigEndian.PutUint16(s[4:], uint16(len(s)-40))
			} else {
				binary.BigEndian.PutUint16(s[2:], uint16(len(s)))
				binary.BigEndian.PutUint16(s[4:], binary.BigEndian.Uint16(s[4:])+uint16(i))
			}
			if v.protocol == 17 {
				binary.BigEndian.PutUint16(s[v.l4+4:], uint16(8+n))
			} else {
				binary.BigEndian.PutUint32(s[v.l4+4:], binary.BigEndian.Uint32(s[v.l4+4:])+uint32(done))
				if head+done+n < len(f.b) {
					s[v.l4+13] &^= 0x09 // FIN, PSH
				}
			}
			cut = append(cut, s)
		}
		if len(cut) > maxSegments && v.protocol == 17 {
			return nil, nil, fmt.Errorf("%d segments", len(cut))
		}
	}
	for _, s := range cut {
		v := viewOf(s)
		if v.v6 && len(s)-40 != int(binary.BigEndian.Uint16(s[4:])) || !v.v6 && len(s) != int(binary.BigEndian.Uint16(s[2:])) {
			return nil, nil, fmt.Errorf("wrong length in % x", s[:v.l4])
		}
		if h.Flags&siit.NeedsCsum != 0 {
			field := v.checksumField()
			if h.GSOType == siit.GSONone {
				field = s[h.CsumStart+h.CsumOffset:][:2]
			}
			field[0], field[1] = 0, 0
			binary.BigEndian.PutUint16(field, ^v.sum())
			if v.protocol == 17 && field[0]|field[1] == 0 {
				field[0], field[1] = 0xff, 0xff
			}
		}
		if v.protocol == 6 && !v.fragment && len(s) >= v.l4+20 && string(v.checksumField()) == "\xff\xff" {
			copy(v.checksumField(), "\x00\x00") // the same in ones' complement
		}
		if !v.v6 {
			if h.GSOType == siit.GSONone && siit.Sum(s[:20], 0) != 0xffff {
				return nil, nil, fmt.Errorf("wrong checksum in % x", s[:20])
			}
			s[10], s[11] = 0, 0
			if !v.fragment {
				ids = append(ids, binary.BigEndian.Uint16(s[4:]))
				s[4], s[5] = 0, 0
			}
		}
		list = append(list, s)
	}
	return list, ids, nil
}

// orders returns the packets of each flow in order. Packets whose flow cannot be
// told belong to all flows between their addresses.
func orders(t *testing.T, frames []frame) (byFlow map[string][][]byte, ids []uint16) {
	t.Helper()
	byFlow = map[string][][]byte{}
	flows := map[string][]string{} // by addresses
	type packet struct {
		b          []byte
		pair, flow string
	}
	var all []packet
	for _, f := range frames {
		list, n, err := f.segments()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, n...)
		for _, b := range list {
			v := viewOf(b)
			p := packet{b, v.pair(), v.flow()}
			all = append(all, p)
			if _, ok := byFlow[p.pair+p.flow]; !ok {
				byFlow[p.pair+p.flow] = nil
				flows[p.pair] = append(flows[p.pair], p.pair+p.flow)
			}
		}
	}
	for _, p := range all {
		keys := []string{p.pair + p.flow}
		if p.flow == "" {
			keys = flows[p.pair]
		}
		for _, key := range keys {
			byFlow[key] = append(byFlow[key], p.b)
		}
	}
	return byFlow, ids
}

// traffic makes packets of a number of flows as hosts send them, and some that
// no host should.
type traffic struct {
	*rand.Rand
	flows int
	seq   map[int]uint32
}

func (g *traffic) next() frame {
	id := g.IntN(g.flows)
	to6 := id%2 == 0
	tcp := id%4 >= 2
	sizes := []int{0, 1, 7, 64, 100, 512, 1200, 1400}
	size := sizes[(id/4+g.odd(10, g.IntN(8)))%len(sizes)]
	if g.odd(20, 1) == 1 {
		size = g.IntN(size + 1)
	}
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(g.Uint32())
	}
	protocol, head := byte(17), make([]byte, 8)
	if tcp {
		protocol, head = 6, make([]byte, 20+12*g.odd(30, 1))
		binary.BigEndian.PutUint32(head[4:], g.seq[id])
		g.seq[id] += uint32(size)
		binary.BigEndian.PutUint32(head[8:], uint32(g.odd(30, 7)))
		head[12] = byte(len(head)/4) << 4
		head[13] = []byte{0x10, 0x18, 0x11, 0x02, 0x90, 0x30}[g.odd(8, g.IntN(6))]
		binary.BigEndian.PutUint16(head[14:], uint16(1000+g.odd(40, 1)))
		for i := 20; i < len(head); i++ {
			head[i] = 1
		}
	} else {
		binary.BigEndian.PutUint16(head[4:], uint16(8+size-g.odd(60, min(size, 1))))
	}
	binary.BigEndian.PutUint16(head, uint16(1000+id))
	binary.BigEndian.PutUint16(head[2:], 2000)

	tos, ttl := byte(g.odd(40, 2)), byte(64-g.odd(40, 1))
	var p []byte
	if to6 {
		p = make([]byte, 20)
		p[0], p[1], p[8], p[9] = 0x45, tos, ttl, protocol
		if g.odd(40, 1) == 1 { // options
			p[0] = 0x46
			p = append(p, 1, 1, 1, 0)
		}
		binary.BigEndian.PutUint16(p[4:], uint16(g.Uint32()))
		switch {
		case id%3 == 0:
			p[6] = 0x40 ^ byte(g.odd(40, 0x40))
		case g.odd(40, 1) == 1:
			p[7] = 8 // a later fragment
		}
		copy(p[12:], clat4.AsSlice())
		copy(p[16:], host4.AsSlice())
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)+len(head)+size))
		binary.BigEndian.PutUint16(p[10:], ^siit.Sum(p, 0))
	} else {
		p = make([]byte, 40)
		p[0], p[1], p[6], p[7] = 0x60|tos>>4, tos<<4, protocol, ttl
		p[3] = byte(g.odd(40, 3)) // flow label
		copy(p[8:], host6.AsSlice())
		copy(p[24:], clat6.AsSlice())
		if g.odd(40, 1) == 1 {
			p[6] = 44
			p = append(p, protocol, 0, 0, 8, 0, 0, 0, 9)
		}
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40+len(head)+size))
	}
	l4 := len(p)
	p = append(append(p, head...), payload...)
	v := view{b: p, v6: !to6, l4: l4, protocol: protocol}
	fragment := to6 && p[7] != 0 || !to6 && p[6] == 44
	var h tun.VnetHeader
	field := v.checksumField()
	switch kind := g.IntN(8); {
	case fragment:
	case kind < 3: // partial, of one packet or of segments
		words := append([]byte(v.pair()), 0, protocol, byte((len(p)-l4)>>8), byte(len(p)-l4))
		binary.BigEndian.PutUint16(field, siit.Sum(words, 0))
		h = tun.VnetHeader{Flags: siit.NeedsCsum, CsumStart: uint16(l4), CsumOffset: 6}
		if tcp {
			h.CsumOffset = 16
		}
		if kind == 0 && size > 50 && p[0] != 0x46 && (!tcp || head[13] == 0x10) && int(binary.BigEndian.Uint16(p[l4+4:])) == 8+size {
			h.GSOType, h.GSOSize, h.HdrLen = siit.GSOUDPL4, 40, uint16(l4+8)
		}
	case kind == 3 && g.IntN(4) == 0: // wrong
		field[0], field[1] = 1, byte(g.Uint32())
	case kind == 4 && g.IntN(4) == 0: // none
	default:
		binary.BigEndian.PutUint16(field, ^v.sum())
		if kind == 5 {
			h.Flags = siit.DataValid
		}
	}
	return frame{p, h}
}

// odd returns v once in n times, and 0 otherwise.
func (g *traffic) odd(n, v int) int {
	if g.IntN(n) == 0 {
		return v
	}
	return 0
}

// burstsOf returns packets that come in bursts of one flow.
func burstsOf(seed uint64, flows, packets int) (in []frame, rnd *rand.Rand) {
	rnd = rand.New(rand.NewPCG(seed, 64))
	g := &traffic{rnd, flows, map[int]uint32{}}
	for len(in) < packets {
		burst := &traffic{rnd, flows, g.seq}
		f := burst.next()
		in = append(in, f)
		last := f.b // the rest of the burst is alike
		for range rnd.IntN(20) {
			c := bytes.Clone(f.b)
			c[len(c)-1] ^= byte(rnd.Uint32())
			v := viewOf(c)
			if v.fragment || c[0] == 0x46 {
				continue
			}
			if v.protocol == 6 && f.h.GSOType == siit.GSONone {
				size := len(c) - v.l4 - int(c[v.l4+12]>>4)*4
				binary.BigEndian.PutUint32(c[v.l4+4:], binary.BigEndian.Uint32(last[v.l4+4:])+uint32(size))
				if rnd.IntN(20) == 0 {
					c[v.l4+7]++ // a gap
				}
			}
			if first := viewOf(f.b); f.h.Flags&siit.NeedsCsum == 0 && first.sum() == 0xffff { // it was right
				field := v.checksumField()
				field[0], field[1] = 0, 0
				binary.BigEndian.PutUint16(field, ^v.sum())
			}
			in = append(in, frame{c, f.h})
			last = c
			if rnd.IntN(6) == 0 {
				in = append(in, burst.next())
			}
		}
	}
	return in, rnd
}

// checkJoined compares what the engine makes of in with what the translator makes
// of each packet alone, flow by flow.
func checkJoined(t *testing.T, in []frame, empty func() bool) (written, unjoined int) {
	t.Helper()
	out, e := through(t, in, empty)
	single := alone(t, in)
	want, _ := orders(t, single)
	got, ids := orders(t, out)
	if len(got) != len(want) {
		t.Fatalf("%d flows came out, want %d", len(got), len(want))
	}
	for key, list := range want {
		if len(got[key]) != len(list) {
			t.Fatalf("flow %x: %d packets came out, want %d", key, len(got[key]), len(list))
		}
		for i, p := range list {
			if !bytes.Equal(got[key][i], p) {
				t.Fatalf("flow %x, packet %d of %d:\n% x, want\n% x", key, i, len(list), got[key][i], p)
			}
		}
	}
	slices.Sort(ids)
	if n := len(ids); len(slices.Compact(ids)) != n {
		t.Error("two IPv4 packets have one identification")
	}
	if s := e.Stats(); s.To6.Total().Packets+s.To4.Total().Packets == 0 {
		t.Error("nothing was translated")
	}
	return len(out), len(single)
}

// Whatever is joined, cut again, is what would have come out unjoined, in the
// order of each flow.
func TestJoinedIsUnjoined(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 2
	}
	for _, flows := range []int{1, 4, 40, 300} {
		for seed := range seeds {
			t.Run(fmt.Sprintf("%d flows, seed %d", flows, seed), func(t *testing.T) {
				in, rnd := burstsOf(seed, flows, 1500)
				pause := []int{1, 3, 20, 1000}[seed%4]
				written, unjoined := checkJoined(t, in, func() bool { return rnd.IntN(pause) == 0 })
				if pause > 1 && written >= unjoined {
					t.Errorf("%d packets were written as %d: none was joined", unjoined, written)
				}
			})
		}
	}
}

func FuzzJoinedIsUnjoined(f *testing.F) {
	f.Add(uint64(1), uint16(3), uint16(5))
	f.Fuzz(func(t *testing.T, seed uint64, flows, pause uint16) {
		in, rnd := burstsOf(seed, int(flows%500)+1, 50)
		checkJoined(t, in, func() bool { return rnd.IntN(int(pause)+1) == 0 })
	})
}

func udpFrames(n, size int) (in []frame) {
	for i := range n {
		in = append(in, frame{b: udp4(bytes.Repeat([]byte{byte(i)}, size), 64)[siit.Headroom:]})
	}
	return in
}

func TestJoin(t *testing.T) {
	with := func(in []frame, i int, change func(b []byte)) []frame {
		b := in[i].b
		change(b)
		if b[0]>>4 == 4 {
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], ^siit.Sum(b[:4*int(b[0]&15)], 0))
		}
		return in
	}
	udp6Frames := func(n int) (in []frame) {
		for range n {
			in = append(in, frame{b: udp6(make([]byte, 100), clat6)[siit.Headroom:]})
		}
		return in
	}
	atomic := func(in []frame) []frame {
		for i, f := range in {
			b := append(bytes.Clone(f.b[:40]), 17, 0, 0, 0, 0, 0, 0, byte(i))
			b[6] = 44
			binary.BigEndian.PutUint16(b[4:], uint16(len(f.b)-40+8))
			in[i].b = append(b, f.b[40:]...)
		}
		return in
	}
	for _, tt := range []struct {
		name string
		in   []frame
		want int // packets written
	}{
		{"datagrams of one size", udpFrames(10, 100), 1},
		{"a shorter one ends it", append(udpFrames(5, 100), append(udpFrames(1, 99), udpFrames(5, 100)...)...), 2},
		{"a longer one begins anew", append(udpFrames(5, 100), udpFrames(5, 101)...), 2},
		{"empty datagrams", udpFrames(5, 0), 5},
		{"64 segments at most", udpFrames(64, 8), 1},
		{"65,535 bytes at most", udpFrames(60, 1232), 2},
		{"IPv6", udp6Frames(10), 1},
		{"other traffic class", with(udpFrames(3, 100), 1, func(b []byte) { b[1] = 4 }), 3},
		{"other TTL", with(udpFrames(3, 100), 2, func(b []byte) { b[8]-- }), 2},
		{"wrong checksum", with(udpFrames(4, 100), 1, func(b []byte) { b[27] ^= 1 }), 3},
		{"options", with(udpFrames(4, 100), 1, func(b []byte) {
			b[0] = 0x46 // the first four bytes of UDP
			b[20], b[21], b[22], b[23] = 1, 1, 1, 1
		}), 3},
		{"atomic fragments keep their identification", atomic(udp6Frames(3)), 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, _ := through(t, tt.in, nil)
			if len(out) != tt.want {
				t.Errorf("%d packets were written, want %d", len(out), tt.want)
			}
		})
	}
	t.Run("without UDP segmentation", func(t *testing.T) {
		q := &script{in: udpFrames(10, 100)}
		e, _ := build(t, 0, Options{Queues: []Queue{q}})
		e.workers[0].run()
		if len(q.out) != 10 {
			t.Errorf("%d packets were written, want 10", len(q.out))
		}
	})
	t.Run("100 flows", func(t *testing.T) {
		var in []frame
		for range 4 {
			for flow := range 16 {
				for _, f := range udpFrames(4, 100) {
					f.b[21] = byte(flow)
					f.h.Flags = siit.DataValid
					in = append(in, f)
				}
			}
		}
		out, _ := through(t, in, nil)
		if len(out) > 64 {
			t.Errorf("%d packets were written of 256 in bursts of 4", len(out))
		}
	})
}

// A packet counts as finished when it has been written, not when it has been read.
func TestFinishedWhenWritten(t *testing.T) {
	q := &script{in: udpFrames(200, 100)}
	finished, calls := 0, 0
	e, _ := build(t, 0, Options{Queues: []Queue{q}, UDPSegments: true, OnFinished: func(queue int, b Batch) {
		finished += b.Packets
		calls++
		n := 0
		for _, f := range q.out {
			list, _, err := f.segments()
			if err != nil {
				t.Error(err)
			}
			n += len(list)
		}
		if queue != 0 || n != finished || q.packets-finished > maxBatch {
			t.Errorf("%d packets are finished, %d written, %d read", finished, n, q.packets)
		}
	}})
	e.workers[0].run()
	if finished != 200 || calls != 4 {
		t.Errorf("%d packets are finished in %d calls, want 200 in 4", finished, calls)
	}
}

// A super-packet that the kernel does not take counts as its segments.
func TestWriteErrorsOfSegments(t *testing.T) {
	q := &script{in: udpFrames(10, 100), refuse: syscall.EIO}
	e, _ := build(t, 0, Options{Queues: []Queue{q}, UDPSegments: true})
	e.workers[0].run()
	if s := e.Stats(); s.WriteErrors != 10 || s.To6.Total().Packets != 10 {
		t.Errorf("%d write errors of %d packets, want 10 of 10", s.WriteErrors, s.To6.Total().Packets)
	}
}

func TestJoiningDoesNotAllocate(t *testing.T) {
	in, _ := burstsOf(1, 100, 2000)
	discard := &discarding{}
	e, _ := build(t, 0, Options{Queues: []Queue{discard}, UDPSegments: true})
	w := e.workers[0]
	allocs := testing.AllocsPerRun(3, func() {
		discard.in = in
		for len(discard.in) > 0 {
			w.step()
		}
		w.flush()
	})
	if allocs != 0 {
		t.Errorf("%v allocations for %d packets", allocs, len(in))
	}
}

// discarding hands out frames and forgets what is written.
type discarding struct{ in []frame }

func (q *discarding) ReadIdle(buf []byte, off int, _ func()) (int, tun.VnetHeader, error) {
	f := q.in[0]
	q.in = q.in[1:]
	return copy(buf[off:], f.b), f.h, nil
}

func (q *discarding) Write([]byte, int, tun.VnetHeader) error { return nil }
func (q *discarding) Close() error                            { return nil }
func (q *discarding) Interrupt() error                        { return nil }
