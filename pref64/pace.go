package pref64

import "time"

// pace limits how often something happens: burst times at once, then once
// every interval (generic cell rate algorithm).
type pace struct {
	burst    int
	interval time.Duration
	spent    time.Time // theoretical arrival time: each event moves it on by interval
}

// ready returns the earliest time of the next event.
func (p *pace) ready() time.Time { return p.spent.Add(-time.Duration(p.burst-1) * p.interval) }

// take counts an event at now.
func (p *pace) take(now time.Time) { p.spent = later(p.spent, now).Add(p.interval) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// earlier returns the earlier of two times, where zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// ended reports whether end, where zero is never, has come.
func ended(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }
