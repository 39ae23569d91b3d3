package main

import (
	"time"
)

// retryTimer asks for another pass after a time.
type retryTimer struct {
	timer *time.Timer
	due   time.Time // zero: it does not run
}

// start makes the timer, which is not running. ask is called when it is due.
func (r *retryTimer) start(ask func()) {
	r.timer = time.AfterFunc(time.Hour, ask)
	r.stop()
}

func (r *retryTimer) stop() {
	r.timer.Stop()
	r.due = time.Time{}
}

// in asks for another pass in wait, if none comes sooner. 0 asks for nothing.
func (r *retryTimer) in(wait time.Duration) {
	if wait > 0 && (r.due.IsZero() || time.Now().Add(wait).Before(r.due)) {
		r.due = time.Now().Add(wait)
		r.timer.Reset(wait)
	}
}
