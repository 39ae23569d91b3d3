package main

import (
	"time"

	"tnat64d/internal/control"
)

// platWatch sees by what is translated anyway whether the PLAT answers. It
// sends nothing; it says when the PLAT is to be asked.
//
// An answer is anything on its way in but ICMP errors, which routers before
// the PLAT send just when it is gone. A PLAT from which nothing has come for
// [silence], while at least [unanswered] packets went to it, is suspected. That
// proves nothing: a single user who sends to a host that is down makes a PLAT
// look silent. See [platCheck] for what decides.
type platWatch struct {
	state control.PLATState
	since time.Time
	known bool // something has answered

	last      flow
	began     time.Time // of the time without answer; zero: there is none
	sent      uint64    // packets since then
	suspected time.Time // when something was last sent into the silence
	watchful  time.Time // until when to look often
	flowed    time.Time // when packets of programs were last seen

	checking bool
	checked  time.Time // when the last check began
	checks   int       // in a row
	unsure   bool      // the last one proved nothing
	returns  int       // checks in a row of a PREF64 that is in doubt
	returned time.Time // when the last of these began

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
	// answeredShare is the part of the packets that must be answered by a PLAT
	// that was silent: one in so many.
	answeredShare = 4
	forget        = 2 * time.Minute // a pause after which counting begins anew

	// Checks are so far apart, twice as far each time, and less far after a
	// while without one: anybody can cause them.
	firstCheck   = 10 * time.Second
	lastCheck    = 2 * time.Minute
	checksForget = 10 * time.Minute
	// So are those of a PREF64 that was given up.
	firstReturn = 30 * time.Second
	lastReturn  = 5 * time.Minute

	// How long until the next look: often after a change and while packets
	// flow, otherwise rarely. A laptop at rest wakes up once a minute.
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
	if w.checking {
		return false // ended takes it in
	}
	before, sent := w.state, f.out-w.last.out
	if sent > w.probes || f.in != w.last.in && w.probes == 0 {
		w.flowed = now
	}
	in := f.in - w.last.in
	switch {
	case w.state == control.PLATSilent && in > 0 && in < sent/answeredShare:
		// A server that keeps a connection alive is heard, and not answered.
	case in > 0:
		w.began, w.sent, w.known, w.unsure = time.Time{}, 0, true, false
		w.enter(control.PLATAnswering, now)
	case w.state == control.PLATSilent && sent <= w.probes:
		// Nobody but us wants an answer: no reason to look often.
	case sent > 0:
		if w.began.IsZero() || now.Sub(w.suspected) > forget {
			w.began, w.sent = now, 0
		}
		w.sent += sent
		w.suspected = now
	}
	if sent > 0 {
		w.probes = 0
	}
	w.last = f
	return w.state != before
}

// checkDue reports whether the PLAT is suspected, and is to be asked now: right
// after a look that has seen packets go out.
func (w *platWatch) checkDue(now time.Time) bool {
	if w.checking || w.began.IsZero() || w.sent < unanswered || now.Sub(w.began) < silence || !w.suspected.Equal(now) {
		return false
	}
	return w.checked.IsZero() || now.Sub(w.checked) >= spaced(firstCheck, lastCheck, w.checks)
}

// check notes that a check begins.
func (w *platWatch) check(now time.Time) {
	if now.Sub(w.checked) > checksForget {
		w.checks = 0
	}
	w.checking, w.checked = true, now
	w.checks++
}

// ended takes in the counters at the end of a check, and reports whether so much
// has come back meanwhile that the PLAT answers, whatever the check has found.
// What went out does not count: some of it was the check's.
func (w *platWatch) ended(f flow) (answers bool) {
	in, out := f.in-w.last.in, f.out-w.last.out
	w.last, w.checking = f, false
	return in > 0 && in >= out/answeredShare
}

// conclude takes in the verdict of a check, and reports whether the state has
// changed.
func (w *platWatch) conclude(v verdictState, now time.Time) (changed bool) {
	before := w.state
	w.unsure = v == unsure
	switch v {
	case alive:
		w.began, w.sent = time.Time{}, 0
		w.enter(control.PLATAnswering, now)
	case silent:
		w.enter(control.PLATSilent, now)
	}
	return w.state != before
}

// returnDue reports whether a PREF64 that was given up is to be asked now.
// Nobody is asked while no packets flow.
func (w *platWatch) returnDue(now time.Time, flows bool) bool {
	if w.checking || !flows {
		return false
	}
	if w.returned.IsZero() {
		w.returned = now // it has just been given up
		return false
	}
	if now.Sub(w.returned) < spaced(firstReturn, lastReturn, w.returns+1) {
		return false
	}
	w.returned = now
	w.returns++
	return true
}

// spaced is how far apart the attempts of a series are after n of them.
func spaced(first, last time.Duration, n int) time.Duration {
	return min(first<<min(max(n-1, 0), 10), last)
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
	flows := !w.flowed.IsZero() && now.Sub(w.flowed) < watchfulAfter
	if flows || now.Before(w.watchful) {
		return lookOften
	}
	return lookRarely
}
