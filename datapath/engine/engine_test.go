package engine

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tnat64d/siit"
	"tnat64d/tun"
	"tnat64d/tun/tuntest"
)

// kernel is the other end of an engine's queue.
type kernel struct {
	*tuntest.Queue
	buf []byte
}

func (k *kernel) send(t testing.TB, p []byte, h tun.VnetHeader) {
	t.Helper()
	if err := k.Write(p, siit.Headroom, h); err != nil {
		t.Fatal(err)
	}
}

// receive returns the next packet, which is good until the one after.
func (k *kernel) receive(t testing.TB) ([]byte, tun.VnetHeader) {
	t.Helper()
	n, h, err := k.Read(k.buf, siit.Headroom)
	if err != nil {
		t.Fatal(err)
	}
	return k.buf[siit.Headroom : siit.Headroom+n], h
}

// start runs an engine with the given number of queues until the test ends.
func start(t testing.TB, queues int, o Options) (*Engine, []*kernel) {
	t.Helper()
	e, ks := build(t, queues, o)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-result; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return e, ks
}

func build(t testing.TB, queues int, o Options) (*Engine, []*kernel) {
	t.Helper()
	var ks []*kernel
	for range queues {
		a, b := tuntest.Pair(64)
		o.Queues = append(o.Queues, a)
		ks = append(ks, &kernel{b, make([]byte, bufferLen)})
	}
	if o.Translator == nil {
		o.Translator = newTranslator(t, clat6)
	}
	return New(o), ks
}

// flush waits until all that was sent before has been dealt with, by a packet
// that comes back translated.
func flush(t testing.TB, k *kernel) {
	t.Helper()
	k.send(t, udp4([]byte("flush"), 64), tun.VnetHeader{})
	for {
		if p, _ := k.receive(t); bytes.HasSuffix(p, []byte("flush")) && p[0]>>4 == 6 {
			return
		}
	}
}

func TestBothDirections(t *testing.T) {
	e, ks := start(t, 1, Options{})
	k := ks[0]

	k.send(t, udp4([]byte("out"), 64), tun.VnetHeader{})
	p, h := k.receive(t)
	if ip := header.IPv6(p); !ip.IsValid(len(p)) || ip.SourceAddress().As16() != clat6.As16() || ip.DestinationAddress().As16() != host6.As16() || ip.HopLimit() != 63 {
		t.Errorf("IPv4 became % x", p)
	}
	if h != (tun.VnetHeader{}) {
		t.Errorf("with %+v", h)
	}
	k.send(t, udp6([]byte("in"), clat6), tun.VnetHeader{})
	p, _ = k.receive(t)
	if ip := header.IPv4(p); !ip.IsValid(len(p)) || ip.SourceAddress().As4() != host4.As4() || ip.DestinationAddress().As4() != clat4.As4() || ip.TTL() != 63 {
		t.Errorf("IPv6 became % x", p)
	}

	want := Stats{To6: Translated{UDP: {1, 31}}, To4: Translated{UDP: {1, 50}}}
	if got := e.Stats(); got != want {
		t.Errorf("stats %+v\nwant  %+v", got, want)
	}
}

// A super-packet goes through in one piece, with its virtio-net header moved
// to the other IP version.
func TestSuperPacket(t *testing.T) {
	_, ks := start(t, 1, Options{})
	payload := bytes.Repeat([]byte("0123456789"), 6400)
	p, o := tcp4(payload)
	ks[0].send(t, p, tun.VnetHeader(o))
	got, h := ks[0].receive(t)
	if len(got) != 60+len(payload) || !bytes.HasSuffix(got, payload) {
		t.Errorf("%d bytes came out, want %d", len(got), 60+len(payload))
	}
	want := tun.VnetHeader{Flags: siit.NeedsCsum, GSOType: siit.GSOTCPv6, HdrLen: 60, GSOSize: 1440, CsumStart: 40, CsumOffset: 16}
	if h != want {
		t.Errorf("vnet header %+v\nwant        %+v", h, want)
	}
}

// A packet that outgrows the link comes out in pieces, all of them.
func TestFragments(t *testing.T) {
	_, ks := start(t, 1, Options{})
	ks[0].send(t, udp4(make([]byte, 8000), 64), tun.VnetHeader{})
	for total := 0; total < 8008; {
		p, _ := ks[0].receive(t)
		ip := header.IPv6(p)
		if ip.NextHeader() != uint8(header.IPv6FragmentHeader) {
			t.Fatalf("after %d bytes no fragment: % x", total, p[:40])
		}
		total += len(ip.Payload()) - header.IPv6FragmentHeaderSize
	}
}

// An ICMP error goes back on the queue that its cause came from.
func TestReplyOnSameQueue(t *testing.T) {
	e, ks := start(t, 3, Options{ICMPErrorsPerSecond: 100})
	for i, k := range ks {
		k.send(t, udp4([]byte("traceroute"), 1), tun.VnetHeader{})
		p, _ := k.receive(t)
		ip := header.IPv4(p)
		if ip.Protocol() != uint8(header.ICMPv4ProtocolNumber) || header.ICMPv4(ip.Payload()).Type() != header.ICMPv4TimeExceeded {
			t.Errorf("queue %d got % x, want Time Exceeded", i, p)
		}
	}
	want := Stats{Errors4: ICMPErrors{Sent: 3}}
	want.Drops[siit.TTLExceeded] = 3
	if got := e.Stats(); got != want {
		t.Errorf("stats %+v\nwant  %+v", got, want)
	}
}

func TestReplyRate(t *testing.T) {
	const packets = 40
	for _, tt := range []struct {
		name       string
		perSecond  int
		least, max uint64 // the clock runs: a slow machine earns more tokens
	}{
		{"off", 0, 0, 0},
		{"burst is at least 10", 1, 10, 15},
		{"burst is a second's worth", 30, 30, packets},
		{"no limit in sight", 1000, packets, packets},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, ks := start(t, 1, Options{ICMPErrorsPerSecond: tt.perSecond})
			for range packets {
				ks[0].send(t, udp4(nil, 1), tun.VnetHeader{})
			}
			flush(t, ks[0])
			s := e.Stats()
			e4 := s.Errors4
			if e4.Sent < tt.least || e4.Sent > tt.max {
				t.Errorf("%d errors sent, want %d to %d", e4.Sent, tt.least, tt.max)
			}
			if e4.Sent+e4.Limited != packets || s.Drops[siit.TTLExceeded] != packets || s.Errors6 != (ICMPErrors{}) {
				t.Errorf("%+v and %+v, %d drops do not make %d errors to the IPv4 side", e4, s.Errors6, s.Drops[siit.TTLExceeded], packets)
			}
		})
	}
}

// Errors to one side leave those to the other side alone, and are counted apart.
func TestReplyRateBySide(t *testing.T) {
	e, ks := start(t, 1, Options{ICMPErrorsPerSecond: 10})
	k := ks[0]
	expired := udp6(nil, clat6)
	expired[siit.Headroom+7] = 1
	const packets = 100
	for range packets {
		k.send(t, expired, tun.VnetHeader{})
		flush(t, k)
	}
	for range 10 {
		k.send(t, udp4(nil, 1), tun.VnetHeader{})
	}
	flush(t, k)
	s := e.Stats()
	if s.Errors4 != (ICMPErrors{Sent: 10}) {
		t.Errorf("to the IPv4 side: %+v, want all 10", s.Errors4)
	}
	if s.Errors6.Sent < 10 || s.Errors6.Limited == 0 || s.Errors6.Sent+s.Errors6.Limited != packets {
		t.Errorf("to the IPv6 side: %+v of %d", s.Errors6, packets)
	}
}

// Whatever comes, the engine goes on.
func TestGarbage(t *testing.T) {
	const packets = 20000
	e, ks := start(t, 1, Options{ICMPErrorsPerSecond: 1 << 30})
	k := ks[0]
	rnd := rand.New(rand.NewPCG(1, 2))
	super, _ := tcp4(make([]byte, 4000))
	templates := [][]byte{udp4(make([]byte, 100), 64), udp6(make([]byte, 100), clat6), super, make([]byte, siit.Headroom)}
	for i := range packets {
		p := bytes.Clone(templates[rnd.IntN(len(templates))])
		for range rnd.IntN(4) {
			if len(p) > siit.Headroom {
				p[siit.Headroom+rnd.IntN(min(60, len(p)-siit.Headroom))] = byte(rnd.Uint32())
			}
		}
		p = p[:siit.Headroom+rnd.IntN(len(p)-siit.Headroom+1)]
		var h tun.VnetHeader
		if rnd.IntN(2) == 0 {
			h = tun.VnetHeader{
				Flags: uint8(rnd.Uint32()), GSOType: uint8(rnd.IntN(8)), HdrLen: uint16(rnd.IntN(100)), GSOSize: uint16(rnd.IntN(3) * 500),
				CsumStart: uint16(rnd.IntN(100)), CsumOffset: uint16(rnd.IntN(30)),
			}
		}
		for k.Write(p, siit.Headroom, h) != nil { // full
			time.Sleep(100 * time.Microsecond)
		}
		if i%16 == 0 {
			flush(t, k) // and empty the ring
		}
	}
	flush(t, k)
	s := e.Stats()
	sum := s.To6.Total().Packets + s.To4.Total().Packets
	for _, n := range s.Drops {
		sum += n
	}
	if want := uint64(packets + packets/16 + 1); sum != want {
		t.Errorf("%d packets accounted for, want %d: %+v", sum, want, s)
	}
}

// A hook that learns an unknown host gets its first packet through, and is
// shown the packet as it was read.
func TestOnRefusedLearns(t *testing.T) {
	other := netip.MustParseAddr("2001:db8::7")
	var e *Engine
	var calls atomic.Int32
	sent := udp6([]byte("who?"), other)
	e, ks := start(t, 1, Options{ICMPErrorsPerSecond: 100, OnRefused: func(p []byte, r siit.Result) (bool, siit.Reason) {
		calls.Add(1)
		if !bytes.Equal(p, sent[siit.Headroom:]) {
			t.Errorf("the hook sees % x", p)
		}
		if r.Reason != siit.DestinationNotOurs {
			return false, siit.None
		}
		e.SetTranslator(newTranslator(t, other))
		return true, siit.None
	}})
	ks[0].send(t, sent, tun.VnetHeader{})
	if p, _ := ks[0].receive(t); !bytes.HasSuffix(p, []byte("who?")) || p[0]>>4 != 4 {
		t.Errorf("received % x", p)
	}
	want := Stats{To4: Translated{UDP: {1, 52}}}
	if got := e.Stats(); got != want || calls.Load() != 1 {
		t.Errorf("%d calls, stats %+v\nwant %+v", calls.Load(), got, want)
	}
}

// A hook that wants the same thing again and again is asked once per packet.
func TestOnRefusedOncePerPacket(t *testing.T) {
	var calls atomic.Int32
	e, ks := start(t, 1, Options{OnRefused: func([]byte, siit.Result) (bool, siit.Reason) { calls.Add(1); return true, siit.None }})
	for range 3 {
		ks[0].send(t, udp4(nil, 1), tun.VnetHeader{})
	}
	flush(t, ks[0])
	if s := e.Stats(); calls.Load() != 3 || s.Drops[siit.TTLExceeded] != 3 {
		t.Errorf("%d calls, %d drops; want 3 of each", calls.Load(), s.Drops[siit.TTLExceeded])
	}
}

func TestRunEndsWithContext(t *testing.T) {
	e, ks := build(t, 4, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- e.Run(ctx) }()
	flush(t, ks[0]) // it runs
	cancel()
	if err := <-result; err != nil {
		t.Errorf("Run: %v", err)
	}
	for i, k := range ks {
		if _, _, err := k.Read(k.buf, siit.Headroom); !errors.Is(err, os.ErrClosed) {
			t.Errorf("queue %d is still open: %v", i, err)
		}
	}
}

func TestRunEndsWithQueue(t *testing.T) {
	e, ks := build(t, 4, Options{})
	result := make(chan error)
	go func() { result <- e.Run(t.Context()) }()
	flush(t, ks[2])
	ks[2].Close()
	if err := <-result; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Run: %v, want what the queue said", err)
	}
	if _, _, err := ks[0].Read(ks[0].buf, siit.Headroom); !errors.Is(err, os.ErrClosed) {
		t.Errorf("another queue is still open: %v", err)
	}
}

func TestRunWithoutQueues(t *testing.T) {
	if err := New(Options{Translator: newTranslator(t, clat6)}).Run(t.Context()); err == nil {
		t.Error("ran with nothing to run")
	}
}

// faulty is a queue whose Read and Write fail as told.
type faulty struct {
	Queue
	readFailures  int // to come
	writeFailures int
	err           error
}

func (q *faulty) ReadIdle(buf []byte, off int, idle func()) (int, tun.VnetHeader, error) {
	if q.readFailures > 0 {
		q.readFailures--
		return 0, tun.VnetHeader{}, q.err
	}
	return q.Queue.ReadIdle(buf, off, idle)
}

func (q *faulty) Write(buf []byte, off int, h tun.VnetHeader) error {
	if q.writeFailures > 0 {
		q.writeFailures--
		return q.err
	}
	return q.Queue.Write(buf, off, h)
}

func TestWriteErrorsAreCounted(t *testing.T) {
	for _, errno := range []error{syscall.EIO, syscall.ENOBUFS, syscall.EAGAIN, syscall.EINVAL} {
		a, b := tuntest.Pair(16)
		e, _ := start(t, 0, Options{Queues: []Queue{&faulty{Queue: a, writeFailures: 2, err: errno}}})
		k := &kernel{b, make([]byte, bufferLen)}
		for range 2 {
			k.send(t, udp4([]byte("lost"), 64), tun.VnetHeader{})
		}
		flush(t, k)
		if s := e.Stats(); s.WriteErrors != 2 || s.To6.Total().Packets != 3 {
			t.Errorf("%v: %d write errors of %d packets, want 2 of 3", errno, s.WriteErrors, s.To6.Total().Packets)
		}
	}
}

func TestReadErrorsAreSurvived(t *testing.T) {
	a, b := tuntest.Pair(16)
	e, _ := start(t, 0, Options{Queues: []Queue{&faulty{Queue: a, readFailures: maxReadErrors - 1, err: syscall.EINVAL}}})
	flush(t, &kernel{b, make([]byte, bufferLen)})
	if s := e.Stats(); s.ReadErrors != maxReadErrors-1 {
		t.Errorf("%d read errors, want %d", s.ReadErrors, maxReadErrors-1)
	}
}

func TestBrokenQueueEndsRun(t *testing.T) {
	a, _ := tuntest.Pair(16)
	e, _ := build(t, 0, Options{Queues: []Queue{&faulty{Queue: a, readFailures: 1 << 30, err: syscall.EINVAL}}})
	if err := e.Run(t.Context()); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Run: %v, want one that wraps EINVAL", err)
	}
}

// SetTranslator and Stats while packets flow. Each packet comes out with the
// address of one translator or the other; the race detector sees the rest.
func TestSwapUnderLoad(t *testing.T) {
	const queues, packets = 2, 2000
	other := netip.MustParseAddr("2001:db8::c1a8")
	one, two := newTranslator(t, clat6), newTranslator(t, other)
	e, ks := start(t, queues, Options{Translator: one})

	var wg sync.WaitGroup
	for _, k := range ks {
		wg.Go(func() {
			p := udp4([]byte("load"), 64)
			for i := range packets {
				if err := k.Write(p, siit.Headroom, tun.VnetHeader{}); err != nil {
					t.Error(err)
					return
				}
				n, _, err := k.Read(k.buf, siit.Headroom)
				if err != nil {
					t.Error(err)
					return
				}
				out := header.IPv6(k.buf[siit.Headroom : siit.Headroom+n])
				if src := netip.AddrFrom16(out.SourceAddress().As16()); src != clat6 && src != other {
					t.Errorf("packet %d comes from %v", i, src)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for i := 0; ; i++ {
		select {
		case <-done:
			if n := e.Stats().To6.Total().Packets; n != queues*packets {
				t.Errorf("%d packets, want %d", n, queues*packets)
			}
			return
		default:
			e.SetTranslator([]*siit.Translator{one, two}[i%2])
			e.Stats()
			time.Sleep(10 * time.Microsecond)
		}
	}
}

func TestLoopDoesNotAllocate(t *testing.T) {
	super, o := tcp4(make([]byte, 60000))
	for _, tt := range []struct {
		name    string
		p       []byte
		h       tun.VnetHeader
		answers int
	}{
		{"4 to 6", udp4(make([]byte, 100), 64), tun.VnetHeader{}, 1},
		{"6 to 4", udp6(make([]byte, 100), clat6), tun.VnetHeader{}, 1},
		{"super-packet", super, tun.VnetHeader(o), 1},
		{"fragments", udp4(make([]byte, 2000), 64), tun.VnetHeader{}, 2},
		{"reply", udp4(nil, 1), tun.VnetHeader{}, 1},
		{"drop", make([]byte, siit.Headroom+10), tun.VnetHeader{}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, ks := build(t, 1, Options{ICMPErrorsPerSecond: 1 << 30, OnRefused: func([]byte, siit.Result) (bool, siit.Reason) { return false, siit.None }})
			w, k := e.workers[0], ks[0]
			allocs := testing.AllocsPerRun(200, func() {
				k.send(t, tt.p, tt.h)
				if err := w.step(); err != nil {
					t.Fatal(err)
				}
				w.flush()
				for range tt.answers {
					k.receive(t)
				}
			})
			if allocs != 0 {
				t.Errorf("%v allocations for a packet", allocs)
			}
			if s := e.Stats(); s.WriteErrors != 0 {
				t.Errorf("%d write errors: more came out than was read", s.WriteErrors)
			}
		})
	}
}
