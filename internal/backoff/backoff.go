// Package backoff spaces repeated attempts.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Backoff is how far apart attempts are: First after the first of them, then twice
// as far each time, and never farther than Last. Both are positive.
type Backoff struct{ First, Last time.Duration }

// After returns how long to wait after attempts in a row that failed.
func (b Backoff) After(attempts int) time.Duration {
	return min(b.First<<min(max(attempts-1, 0), 20), b.Last)
}

// Jittered is After, and up to a tenth of it is taken off at random, so that hosts
// that failed together do not try together.
func (b Backoff) Jittered(attempts int) time.Duration {
	wait := b.After(attempts)
	return wait - rand.N(wait/10)
}
