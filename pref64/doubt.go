package pref64

import (
	"net/netip"
	"slices"
	"time"
)

const maxDoubts = 16

// doubts lists the prefixes whose PLAT does not answer.
type doubts []doubt

type doubt struct {
	prefix netip.Prefix
	until  time.Time
}

// set puts p in doubt until the given time; zero ends the doubt. The oldest
// doubt makes room for a new one.
func (ds *doubts) set(p netip.Prefix, until time.Time) {
	*ds = slices.DeleteFunc(*ds, func(d doubt) bool { return d.prefix == p })
	if until.IsZero() {
		return
	}
	if len(*ds) == maxDoubts {
		*ds = slices.Delete(*ds, 0, 1)
	}
	*ds = append(*ds, doubt{p, until})
}

// until returns the end of the doubt about p; zero: there is none.
func (ds doubts) until(p netip.Prefix) time.Time {
	for _, d := range ds {
		if d.prefix == p {
			return d.until
		}
	}
	return time.Time{}
}

func (ds *doubts) expire(now time.Time) {
	*ds = slices.DeleteFunc(*ds, func(d doubt) bool { return ended(d.until, now) })
}

// next returns when expire next has something to do; zero: never.
func (ds doubts) next() (at time.Time) {
	for _, d := range ds {
		at = earlier(at, d.until)
	}
	return at
}
