package tun

import (
	"testing"
	"time"
)

// TestPollingFollowsArrivals lets packets come in a fixed rhythm, to a reader that
// finds what came while it slept.
func TestPollingFollowsArrivals(t *testing.T) {
	const us = time.Microsecond
	tests := []struct {
		name       string
		batch      int           // packets that come at once
		gap        time.Duration // until the next ones
		sleep      time.Duration // how long a wake-up takes
		from, upto float64       // share of the waits that poll
	}{
		{"answers after 20 µs", 1, 20 * us, 8 * us, 0.99, 1},
		{"two packets for each answer", 2, 20 * us, 8 * us, 0.99, 1},
		{"answers after 90 µs", 1, 90 * us, 8 * us, 0.99, 1},
		{"answers of a network with 5 ms", 1, 5 * time.Millisecond, 8 * us, 0, 0},
		{"thirty packets in every millisecond", 30, time.Millisecond, 8 * us, 0, 0},
		{"flood of 3 µs, slow wake-up", 1, 3 * us, 9 * us, 0, 0.1},
		{"flood of 3 µs, fast wake-up", 1, 3 * us, 4 * us, 0, 0.2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const waits, settled = 1000, 100
			a := newArrivals()
			polls := 0
			for i := range waits + settled {
				batch, waited := tt.batch, tt.gap
				if a.empty() >= min(tt.gap, maxPoll) {
					a.polled(tt.gap)
					if i >= settled {
						polls++
					}
				} else if tt.sleep > tt.gap {
					waited = tt.gap + tt.sleep
					batch *= int(waited / tt.gap)
				} else {
					waited += tt.sleep
				}
				a.arrived(waited)
				for range batch {
					a.read()
				}
			}
			if share := float64(polls) / waits; share < tt.from || share > tt.upto {
				t.Errorf("%.2f of the waits poll, want %.2f to %.2f", share, tt.from, tt.upto)
			}
		})
	}
}

// TestPollingEndsAfterOneFailure bounds what polling costs a host on which packets
// stop coming.
func TestPollingEndsAfterOneFailure(t *testing.T) {
	a := newArrivals()
	if d := a.empty(); d != 0 {
		t.Errorf("polls for %v before the first packet", d)
	}
	a.arrived(20 * time.Microsecond)
	a.read()
	if d := a.empty(); d == 0 {
		t.Error("does not poll after an answer")
	} else {
		a.polled(d)
	}
	a.arrived(time.Second)
	a.read()
	if d := a.empty(); d != 0 {
		t.Errorf("polls for %v after a second without packets", d)
	}
}

// TestPollingLeavesProcessors checks that at most so many queues poll at a time.
func TestPollingLeavesProcessors(t *testing.T) {
	p := &polling{limit: 1}
	if !p.enter() || p.enter() {
		t.Fatal("want one queue to poll at a time")
	}
	p.leave()
	if !p.enter() {
		t.Error("no queue may poll any more")
	}
	if none := new(polling); none.enter() {
		t.Error("a queue polls on the only processor")
	}
}
