package tun

import (
	"math"
	"time"
)

// Where packets come one by one, each as the answer to the one before, it takes
// longer to wake the reader than to translate the packet. So a queue polls for a
// while before it sleeps. It does so only as long as that succeeds, like the halt
// polling of KVM: a packet that comes later than maxPoll ends it.
const (
	minPoll = 10 * time.Microsecond
	maxPoll = 100 * time.Microsecond

	// In a flood a reader that sleeps finds several packets at once, which then
	// become one super-packet. A flood is what comes faster than answers do, or
	// several packets at a time.
	floodGap   = 4 * time.Microsecond
	floodBatch = 2.5
)

// arrivals is how packets have come lately.
type arrivals struct {
	waited time.Duration // for the latest packet that was not there
	batch  int           // packets read since the queue was empty
	mean   float32       // of batches
}

// newArrivals does not poll before the second packet.
func newArrivals() arrivals { return arrivals{waited: math.MaxInt64} }

// read counts a packet.
func (a *arrivals) read() { a.batch++ }

// empty is called when the queue is empty. It returns how long to poll for the next
// packet; 0: not at all.
func (a *arrivals) empty() time.Duration {
	a.mean += (float32(a.batch) - a.mean) / 8
	a.batch = 0
	if a.waited > maxPoll || a.mean >= floodBatch {
		return 0
	}
	return max(minPoll, min(2*a.waited, maxPoll))
}

// polled is called after polling for d.
func (a *arrivals) polled(d time.Duration) {
	if d < floodGap {
		a.mean = 3 * floodBatch
	}
}

// arrived is called when a packet has come after d.
func (a *arrivals) arrived(d time.Duration) { a.waited = d }
