package control

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tnat64d/datapath/engine"
	"tnat64d/siit"
)

// tracing hands packets to those who trace. The backend is asked for packets
// while there is anybody, and no longer.
type tracing struct {
	backend Backend
	max     int // traces at a time

	mu  sync.Mutex // held while the backend is told
	all atomic.Pointer[[]*trace]
}

var errTooManyTraces = errors.New("too many programs trace at the same time")

// start begins a trace; whoever starts it ends it.
func (t *tracing) start(f Filter) (*trace, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*trace
	if p := t.all.Load(); p != nil {
		all = *p
	}
	if len(all) >= t.max {
		return nil, errTooManyTraces
	}
	n := &trace{matcher: newMatcher(f), ready: make(chan struct{}, 1)}
	all = append(slices.Clone(all), n)
	t.all.Store(&all)
	if len(all) == 1 {
		if err := t.backend.Trace(t.see); err != nil {
			t.all.Store(nil)
			t.backend.Trace(nil) // what it has begun nevertheless; the error is told already
			return nil, err
		}
	}
	return n, nil
}

// stop ends a trace.
func (t *tracing) stop(n *trace) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(*t.all.Load()), func(o *trace) bool { return o == n })
	t.all.Store(&all)
	if len(all) == 0 {
		return t.backend.Trace(nil)
	}
	return nil
}

// see shows a packet to all traces. Many goroutines call it at once.
func (t *tracing) see(uplink string, s engine.Seen) {
	all := t.all.Load()
	if all == nil {
		return
	}
	v, now := verdictOf(s), time.Now()
	if v == Collected {
		s.Result.Reason = siit.None // it is not lost
	}
	if v == Drop || v == Collected {
		s.Result.Packets = nil
	}
	for _, n := range *all {
		if n.match(uplink, v, s) {
			n.add(now, uplink, v, s)
		}
	}
}

func verdictOf(s engine.Seen) Verdict {
	switch {
	case s.Collected:
		return Collected
	case s.Limited, s.Result.Verdict == siit.Drop:
		return Drop
	case s.Result.Verdict == siit.Reply:
		return Reply
	}
	return Translated
}

// maxQueued is how many bytes of packets may wait for a reader, besides those
// that are being written to it.
const maxQueued = 1 << 20

// recordCost is about what a Record needs beside its packets, each Packet in
// it too.
const recordCost = 200

// trace is one reader's queue.
type trace struct {
	matcher
	ready chan struct{} // cap 1: there are records

	mu      sync.Mutex
	records []Record
	bytes   int
	missed  uint64
}

// add queues a Record, or counts it as missed.
func (n *trace) add(now time.Time, uplink string, v Verdict, s engine.Seen) {
	out := s.Result.Packets
	cost := recordCost + min(len(s.Packet), n.Snaplen)
	for _, p := range out {
		cost += recordCost + min(len(p.Bytes()), n.Snaplen)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bytes+cost > maxQueued {
		n.missed++
		return
	}
	r := Record{Time: now, Uplink: uplink, Direction: directionOf(s.Packet), Verdict: v, Limited: s.Limited, Missed: n.missed}
	if s.Result.Reason != siit.None {
		r.Reason = s.Result.Reason.String()
	}
	r.In, r.InLen = n.cut(s.Packet), len(s.Packet)
	r.Out = make([]Packet, len(out))
	for i, p := range out {
		r.Out[i] = Packet{Data: n.cut(p.Bytes()), Len: len(p.Bytes())}
	}
	n.records, n.bytes, n.missed = append(n.records, r), n.bytes+cost, 0
	select {
	case n.ready <- struct{}{}:
	default:
	}
}

// cut copies as much of a packet as the reader wants.
func (n *trace) cut(p []byte) []byte { return slices.Clone(p[:min(len(p), n.Snaplen)]) }

// take returns what is queued, for the reader's goroutine.
func (n *trace) take() []Record {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.records
	n.records, n.bytes = nil, 0
	return r
}

func directionOf(p []byte) string {
	switch {
	case len(p) > 0 && p[0]>>4 == 4:
		return "4to6"
	case len(p) > 0 && p[0]>>4 == 6:
		return "6to4"
	}
	return ""
}
