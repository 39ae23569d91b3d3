package main

import (
	"time"

	"tnat64d/internal/control"
)

// platWatch judges by what is translated anyway whether the PLAT answers. It
// sends nothing; it says when a probe, if one is configured, would help.
//
// An answer is anything on its way in but ICMP errors, which routers before
// the PLAT send just when it is gone. A PLAT from which nothing has come for
// [silence], while at least [unanswered] packets went to it, does not answer.
// That wrongs a PLAT whose only user speaks into the void by itself, to a host
// that is down or by UDP that nobody answers; so nothing worse follows from it
// than that another PREF64 is tried, if the network has one.
type platWatch struct {
	state control.PLATState
	since time.Time

	last      flow
	began     time.Time // of the time without answer; zero: there is none
	sent      uint64    // packets since then
	suspected time.Time // when something was last sent into the silence
	watchful  time.Time // until when to look often

	probed time.Time // the last time
	probes uint64    // that last does not have yet
}

// flow is how many packets a CLAT has translated so far.
type flow struct {
	out uint64
	in  uint64 // but ICMP errors
}

const (
	silence    = 10 * time.Second
	unanswered = 3
	forget     = 2 * time.Minute // a pause after which counting begins anew

	// How long until the next look: often after a change and while there is
	// suspicion, otherwise rarely. A laptop at rest wakes up once a minute.
	lookOften     = 4 * time.Second
	lookRarely    = time.Minute
	watchfulAfter = 30 * time.Second
)

// reset begins anew: another PREF64, another network.
func (w *platWatch) reset(now time.Time, f flow) {
	*w = platWatch{state: control.PLATUnknown, since: now, last: f, watchful: now.Add(watchfulAfter)}
}

// look takes in the counters at now, and reports whether the judgement has
// changed.
func (w *platWatch) look(now time.Time, f flow) (changed bool) {
	before, sent := w.state, f.out-w.last.out
	switch {
	case f.in != w.last.in:
		w.began, w.sent = time.Time{}, 0
		w.enter(control.PLATAnswering, now)
	case w.state == control.PLATSilent && sent <= w.probes:
		// Nobody but us wants an answer: no reason to look often.
	case sent > 0:
		if w.began.IsZero() || now.Sub(w.suspected) > forget {
			w.began, w.sent = now, 0
		}
		w.sent += sent
		w.suspected = now
		if w.sent >= unanswered && now.Sub(w.began) >= silence {
			w.enter(control.PLATSilent, now)
		}
	}
	if sent > 0 {
		w.probes = 0
	}
	w.last = f
	return w.state != before
}

func (w *platWatch) enter(s control.PLATState, now time.Time) {
	if w.state != s {
		w.state, w.since = s, now
	}
}

// probeDue reports whether an answer would be welcome, and the last probe is
// long enough ago; the caller then sends one. A PLAT that is known to be silent
// is asked rarely.
func (w *platWatch) probeDue(now time.Time) bool {
	apart := lookOften
	if w.state == control.PLATSilent {
		apart = lookRarely
	}
	welcome := w.state != control.PLATAnswering || !w.began.IsZero()
	if !welcome || !w.probed.IsZero() && now.Sub(w.probed) < apart {
		return false
	}
	w.probed = now
	w.probes++
	return true
}

// next is how long to wait before the next look.
func (w *platWatch) next(now time.Time) time.Duration {
	suspicious := !w.began.IsZero() && now.Sub(w.suspected) < watchfulAfter
	if suspicious || now.Before(w.watchful) {
		return lookOften
	}
	return lookRarely
}
