package engine

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"tnat64d/siit"
	"tnat64d/tun"
)

// told is what a trace is told, in memory of its own.
type told struct {
	Seen
	out [][]byte
}

// tell returns a trace that keeps everything, and a function that takes it.
func tell() (see func(Seen), take func() []told) {
	var mu sync.Mutex
	var all []told
	see = func(s Seen) {
		mu.Lock()
		defer mu.Unlock()
		t := told{Seen: s}
		t.Packet = bytes.Clone(s.Packet)
		for _, p := range s.Result.Packets {
			t.out = append(t.out, bytes.Clone(p.Bytes()))
		}
		all = append(all, t)
	}
	return see, func() []told { mu.Lock(); defer mu.Unlock(); return slices.Clone(all) }
}

// A trace sees each packet as it came, and what came out of it, whatever that
// was.
func TestTrace(t *testing.T) {
	e, ks := build(t, 1, Options{ICMPErrorsPerSecond: 1})
	w, k := e.workers[0], ks[0]
	step := func(p []byte) {
		t.Helper()
		k.send(t, p, tun.VnetHeader{})
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
	}
	step(udp4([]byte("before"), 64)) // not seen
	see, take := tell()
	e.SetTrace(see)

	var came [][]byte
	var want []string
	add := func(p []byte, s string) {
		came, want = append(came, p[siit.Headroom:]), append(want, s)
		step(p)
	}
	add(udp4([]byte("out"), 64), "translated none 1")
	add(udp6([]byte("in"), clat6), "translated none 1")
	add(udp4(make([]byte, 3000), 64), "translated none 3")
	add(udp6([]byte("who"), host6), "drop destination-not-ours 0")
	for range minErrorBurst {
		add(udp4(nil, 1), "reply ttl-exceeded 1")
	}
	add(udp4(nil, 1), "reply ttl-exceeded 1 limited")
	echo := append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, make([]byte, 2000)...)
	sum := ^siit.Sum(echo, 0)
	echo[2], echo[3] = byte(sum>>8), byte(sum)
	for _, p := range pieces(echo, 1480, func(off int, more bool, d []byte) []byte {
		b := fragment4(7, off, more, d)
		copy(b[12:], clat4.AsSlice())
		copy(b[16:], host4.AsSlice())
		b[10], b[11] = 0, 0
		sum := ^siit.Sum(b[:20], 0)
		b[10], b[11] = byte(sum>>8), byte(sum)
		return b
	}) {
		add(append(make([]byte, siit.Headroom), p...), "drop fragmented-icmp 0 collected")
	}
	want = append(want, "translated none 2") // the whole message
	e.SetTrace(nil)
	step(udp4([]byte("after"), 64)) // not seen

	var got []string
	for i, s := range take() {
		l := fmt.Sprintf("%v %v %d", s.Result.Verdict, s.Result.Reason, len(s.out))
		if s.Collected {
			l += " collected"
		}
		if s.Limited {
			l += " limited"
		}
		got = append(got, l)
		if i < len(came) && !bytes.Equal(s.Packet, came[i]) {
			t.Errorf("packet %d is told as % x, came as % x", i, s.Packet, came[i])
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the trace tells %q\nwant           %q", got, want)
	}
	if last := take()[len(got)-1]; len(last.Packet) != 20+len(echo) || !bytes.HasSuffix(last.Packet, echo[4:]) {
		t.Errorf("the whole message is told as %d bytes", len(last.Packet))
	}
}

// A trace comes and goes while packets flow; the race detector sees the rest.
func TestTraceUnderLoad(t *testing.T) {
	e, ks := start(t, 2, Options{})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, k := range ks {
		wg.Go(func() {
			for range 500 {
				flush(t, k)
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return
		default:
			see, _ := tell()
			e.SetTrace(see)
			e.SetTrace(nil)
		}
	}
}

// What is counted by which protocol, in both directions.
func TestProtocols(t *testing.T) {
	e, ks := start(t, 1, Options{})
	k := ks[0]
	super, o := tcp4(make([]byte, 5000))
	k.send(t, super, tun.VnetHeader(o))
	k.receive(t)
	k.send(t, udp6(make([]byte, 10), clat6), tun.VnetHeader{})
	k.receive(t)
	big := udp4(make([]byte, 3000), 64)
	k.send(t, big, tun.VnetHeader{})
	for range 3 {
		k.receive(t)
	}
	esp := udp4(make([]byte, 12), 64)
	ip := esp[siit.Headroom:]
	ip[9], ip[10], ip[11] = 50, 0, 0
	sum := ^siit.Sum(ip[:20], 0)
	ip[10], ip[11] = byte(sum>>8), byte(sum)
	k.send(t, esp, tun.VnetHeader{})
	k.receive(t)
	want := Stats{
		To6: Translated{TCP: {1, 5040}, UDP: {1, 3028}, Other: {1, 40}},
		To4: Translated{UDP: {1, 58}},
	}
	got := e.Stats()
	if got != want {
		t.Errorf("stats %+v\nwant  %+v", got, want)
	}
	if both := got.Add(got); both.To6.Total() != (Traffic{6, 2 * (5040 + 3028 + 40)}) {
		t.Errorf("twice that is %+v", both.To6)
	}
}
