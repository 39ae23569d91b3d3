package clat

import (
	"time"

	"tnat64d/internal/backoff"
)

// retries spaces the attempts of one resource.
var retries = backoff.Backoff{First: time.Second, Last: time.Minute}

// retry spaces the attempts of one resource that fails while the rest of its CLAT
// works. The zero retry has not failed.
type retry struct {
	failures int // in a row
	err      error
	due      time.Time // of the next attempt
}

// waits reports whether the next attempt is not due yet. If so it asks to reconcile
// when it is.
func (r *retry) waits(wake *wakeup) bool {
	left := time.Until(r.due)
	if r.err == nil || left <= 0 {
		return false
	}
	wake.in(left)
	return true
}

// failed notes a failure and asks to reconcile again for the next attempt.
func (r *retry) failed(err error, wake *wakeup) {
	r.failures++
	wait := retries.After(r.failures)
	r.err, r.due = err, time.Now().Add(wait)
	wake.in(wait)
}
