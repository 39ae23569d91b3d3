package pref64

import (
	"net/netip"
	"slices"
	"time"
)

const maxDoubts = 16

type doubt struct {
	prefix netip.Prefix
	until  time.Time
}

// Doubt says that the PLAT behind p does not answer: for as long as d, every
// other prefix is preferred, whatever its Origin, and then p is what it was.
// Where there is no other it stays in use. If all are in doubt, the one whose
// doubt ends first is used. A d of 0 ends a doubt.
func (t *Tracker) Doubt(p netip.Prefix, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	p = p.Masked()
	now := time.Now()
	t.doubts = slices.DeleteFunc(t.doubts, func(o doubt) bool { return o.prefix == p })
	if d > 0 {
		if len(t.doubts) == maxDoubts {
			t.doubts = slices.Delete(t.doubts, 0, 1)
		}
		t.doubts = append(t.doubts, doubt{p, now.Add(d)})
	}
	t.update(now)
}

// doubted returns until when p is in doubt; zero: it is not.
func (t *Tracker) doubted(p netip.Prefix) time.Time {
	for _, d := range t.doubts {
		if d.prefix == p {
			return d.until
		}
	}
	return time.Time{}
}
