package main

import (
	"testing"
	"time"

	"tnat64d/internal/control"
)

func TestPLATWatch(t *testing.T) {
	const (
		unknown   = control.PLATUnknown
		answering = control.PLATAnswering
		still     = control.PLATSilent
	)
	type look struct {
		at      int // seconds
		out, in uint64
		want    control.PLATState
	}
	tests := []struct {
		name  string
		looks []look
	}{
		{"nothing sent, nothing known", []look{{4, 0, 0, unknown}, {300, 0, 0, unknown}}},
		{"an answer", []look{{4, 1, 1, answering}}},
		{"SYNs into the void", []look{{4, 2, 0, unknown}, {8, 3, 0, unknown}, {14, 4, 0, still}}},
		{"few packets prove nothing", []look{{4, 1, 0, unknown}, {60, 2, 0, unknown}}},
		{"a burst proves nothing before time has passed", []look{{4, 50, 0, unknown}, {8, 90, 0, unknown}}},
		{"a burst, and then no more", []look{{4, 50, 0, unknown}, {60, 50, 0, unknown}}},
		{"now and then a packet", []look{{4, 1, 0, unknown}, {160, 2, 0, unknown}, {320, 3, 0, unknown}, {480, 4, 0, unknown}}},
		{"a slow answer", []look{{4, 2, 0, unknown}, {8, 3, 1, answering}, {20, 4, 1, answering}}},
		{"it dies while in use", []look{{4, 9, 9, answering}, {60, 20, 9, answering}, {64, 24, 9, answering}, {72, 25, 9, still}}},
		{"it comes back", []look{{4, 2, 0, unknown}, {15, 4, 0, still}, {19, 5, 1, answering}}},
		{"keepalives of a server are no answers", []look{{4, 2, 0, unknown}, {15, 14, 0, still}, {19, 26, 1, still}, {23, 38, 1, still}, {27, 50, 13, answering}}},
		{"one-way traffic that ends does not count for ever", []look{{4, 2, 2, answering}, {60, 3, 2, answering}, {600, 3, 3, answering}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
			var w platWatch
			w.reset(start, flow{})
			for _, l := range tt.looks {
				before := w.state
				at := start.Add(time.Duration(l.at) * time.Second)
				changed := w.look(at, flow{out: l.out, in: l.in})
				if w.checkDue(at) { // and nobody answers
					w.check(at)
					w.ended(flow{out: l.out, in: l.in})
					changed = w.conclude(silent, at) || changed
				}
				if w.state != l.want {
					t.Errorf("after %d s: %s, want %s", l.at, w.state, l.want)
				}
				if changed != (before != w.state) {
					t.Errorf("after %d s: changed is %v", l.at, changed)
				}
			}
		})
	}
}

// TestPLATWatchSleeps holds the watch to one look a minute when nothing
// happens, or keeps happening in vain.
func TestPLATWatchSleeps(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var w platWatch
	w.reset(now, flow{})
	f := flow{out: 1}
	looks := 0
	for end := now.Add(10 * time.Minute); now.Before(end); looks++ {
		w.look(now, f)
		now = now.Add(w.next(now))
	}
	if looks > 25 {
		t.Errorf("%d looks in ten minutes in which one packet was sent", looks)
	}
	if got := w.next(now); got != lookRarely {
		t.Errorf("at rest the next look is in %v", got)
	}
}

// TestPLATWatchProbes: without traffic a silent PLAT is probed and looked at
// once a minute, and nobody who asks for the state makes it more.
func TestPLATWatchProbes(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var w platWatch
	var f flow
	w.reset(now, f)
	probes, looks := 0, 0
	look := func() {
		w.look(now, f)
		if w.checkDue(now) {
			w.check(now)
			w.ended(f)
			w.conclude(silent, now)
		}
		if looks++; w.probeDue(now) {
			f.out++
			probes++
		}
	}
	for end := now.Add(time.Hour); now.Before(end); {
		look()
		now = now.Add(w.next(now))
	}
	if w.state != control.PLATSilent {
		t.Errorf("the PLAT is %s", w.state)
	}
	if looks < 60 || looks > 80 || probes < 60 || probes > 80 {
		t.Errorf("%d looks and %d probes in an hour", looks, probes)
	}
	probes = 0
	for range 1000 {
		look()
		now = now.Add(time.Millisecond)
	}
	if probes > 1 {
		t.Errorf("%d probes in a second", probes)
	}
	f.in++
	look()
	if w.state != control.PLATAnswering || w.probeDue(now.Add(time.Hour)) {
		t.Errorf("the PLAT is %s, and probed", w.state)
	}
}
