package pref64

import (
	"math/rand/v2"
	"time"
)

// backoff is how far apart repeated attempts are: first after the first of
// them, then twice as far each time, and never farther than last.
type backoff struct{ first, last time.Duration }

// after returns how long to wait after attempts in a row that failed. Up to a
// tenth of it is taken off at random, so that hosts that failed together do
// not try together.
func (b backoff) after(attempts int) time.Duration {
	wait := min(b.first<<min(max(attempts-1, 0), 20), b.last)
	return wait - rand.N(wait/10)
}
