package pref64

import (
	"time"

	"tnat64d/internal/backoff"
)

const (
	// The bounds of noAnswer and noTTL.
	firstRetry   = 2 * time.Second
	firstRecheck = 10 * time.Second
	lastRetry    = 5 * time.Minute

	// The least time between the beginnings of two rounds.
	minPause = 2 * time.Second
)

var (
	// noAnswer spaces rounds without a usable answer.
	noAnswer = backoff.Backoff{First: firstRetry, Last: lastRetry}
	// noTTL spaces rounds after a negative answer without SOA, which must not
	// be cached (RFC 2308 section 5), after addresses that no DNS64 made, and after a
	// negative answer of some servers while others give none that is usable: the
	// DNS64 of a network may come up a little later than the network.
	noTTL = backoff.Backoff{First: firstRecheck, Last: lastRetry}
)

// schedule says when DNS is asked next.
type schedule struct {
	want     want      // what it was made for
	due      time.Time // not before
	last     time.Time // when the latest round began in which a server was asked
	failures int       // rounds in a row without an answer
	negative int       // rounds in a row with a negative answer without TTL
	found    bool      // the latest round found a prefix
	hurry    bool      // something changed during the round
}

// soon moves the next round to now, or as soon after as the distance from the
// latest allows.
func (s *schedule) soon(now time.Time) {
	s.failures, s.negative = 0, 0
	s.due = now
	if !s.last.IsZero() {
		s.due = later(now, s.last.Add(minPause))
	}
}

// over takes in the outcome of the round that began at the given time.
func (s *schedule) over(o outcome, began, now time.Time) {
	if o.kind != nobody {
		s.last = began
	}
	s.found = o.kind == found
	switch {
	case o.kind == found:
		s.failures, s.negative = 0, 0
		s.due = now.Add(o.ttl - refreshEarly)
	case o.kind == negativeAnswer && o.ttl > 0 && o.all:
		s.failures, s.negative = 0, 0
		s.due = now.Add(o.ttl)
	case o.kind == negativeAnswer:
		s.failures = 0
		s.negative++
		s.due = now.Add(noTTL.Jittered(s.negative))
	default:
		s.failures++
		s.due = now.Add(noAnswer.Jittered(s.failures))
	}
	if s.hurry {
		s.soon(now)
	}
}
