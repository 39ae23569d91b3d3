package main

import (
	"time"

	"tnat64d/internal/backoff"
	"tnat64d/internal/control"
)

// platWatch judges from the translated packets whether the PLAT answers. It sends
// nothing; it says when to probe the PLAT.
//
// Every packet that arrives is an answer, except ICMP errors, which routers on the
// way send when the PLAT is gone. A PLAT is suspected if nothing has arrived for
// [silence] while at least [unanswered] packets were sent to it. That proves
// nothing: a single user who sends to a dead host makes a healthy PLAT look
// silent. [platCheck] decides.
type platWatch struct {
	state control.PLATState
	since time.Time
	known bool // something has answered

	last      flow
	began     time.Time // start of the silence; zero: the PLAT is not silent
	sent      uint64    // packets since then
	suspected time.Time // when a packet was last sent during the silence
	watchful  time.Time // until then look often
	flowed    time.Time // when packets of programs were last seen

	checking bool
	checked  time.Time // when the last check began
	checks   int       // in a row
	unsure   bool      // the last check proved nothing
	returns  int       // consecutive checks of a doubted PREF64
	returned time.Time // when the last of these began

	probed time.Time // when the last probe was sent
	probes uint64    // probes sent that last does not count yet
}

// flow is how many packets a CLAT has translated so far.
type flow struct {
	out uint64
	in  uint64 // without ICMP errors
}

const (
	silence    = 10 * time.Second
	unanswered = 3
	// A PLAT that was silent answers again when one in answeredShare packets is
	// answered.
	answeredShare = 4
	forget        = 2 * time.Minute // a pause this long restarts the count

	checksForget = 10 * time.Minute // without a check: checks starts over

	// How long until the next look: often after a change and while packets
	// flow, otherwise rarely. A laptop at rest wakes up once a minute.
	lookOften     = 4 * time.Second
	lookRarely    = time.Minute
	watchfulAfter = 30 * time.Second
)

var (
	// checks spaces the checks of a PLAT, because anybody can cause them.
	checks = backoff.Backoff{First: 10 * time.Second, Last: 2 * time.Minute}
	// returns spaces the checks of a PREF64 that was given up.
	returns = backoff.Backoff{First: 30 * time.Second, Last: 5 * time.Minute}
)

// reset starts over with another PREF64 or network.
func (w *platWatch) reset(now time.Time, f flow) {
	*w = platWatch{state: control.PLATUnknown, since: now, last: f, watchful: now.Add(watchfulAfter)}
}

// look reads the counters at now and reports whether the state has changed.
func (w *platWatch) look(now time.Time, f flow) (changed bool) {
	if w.checking {
		return false // ended reads the counters
	}
	before, sent := w.state, f.out-w.last.out
	if sent > w.probes || f.in != w.last.in && w.probes == 0 {
		w.flowed = now
	}
	in := f.in - w.last.in
	switch {
	case w.state == control.PLATSilent && in > 0 && in < sent/answeredShare:
		// Keep-alives of servers arrive without being answers.
	case in > 0:
		w.began, w.sent, w.known, w.unsure = time.Time{}, 0, true, false
		w.enter(control.PLATAnswering, now)
	case w.state == control.PLATSilent && sent <= w.probes:
		// Only our own probes go out: no reason to look often.
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

// checkDue reports whether the PLAT is suspected and a check is due: only right
// after a look that saw packets go out.
func (w *platWatch) checkDue(now time.Time) bool {
	if w.checking || w.began.IsZero() || w.sent < unanswered || now.Sub(w.began) < silence || !w.suspected.Equal(now) {
		return false
	}
	return w.checked.IsZero() || now.Sub(w.checked) >= checks.After(w.checks)
}

// check notes that a check begins.
func (w *platWatch) check(now time.Time) {
	if now.Sub(w.checked) > checksForget {
		w.checks = 0
	}
	w.checking, w.checked = true, now
	w.checks++
}

// ended reads the counters at the end of a check. It reports whether enough came
// back meanwhile to prove that the PLAT answers, whatever the check found. Sent
// packets do not count, as some of them were the check's.
func (w *platWatch) ended(f flow) (answers bool) {
	in, out := f.in-w.last.in, f.out-w.last.out
	w.last, w.checking = f, false
	return in > 0 && in >= out/answeredShare
}

// conclude applies the verdict of a check and reports whether the state has
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

// returnDue reports whether a check of a PREF64 that was given up is due. None is
// while no packets flow.
func (w *platWatch) returnDue(now time.Time, flows bool) bool {
	if w.checking || !flows {
		return false
	}
	if w.returned.IsZero() {
		w.returned = now // it has just been given up
		return false
	}
	if now.Sub(w.returned) < returns.After(w.returns+1) {
		return false
	}
	w.returned = now
	w.returns++
	return true
}

func (w *platWatch) enter(s control.PLATState, now time.Time) {
	if w.state != s {
		w.state, w.since = s, now
	}
}

// probeDue reports whether the caller should send a probe: an answer would tell
// something, and the last probe is long enough ago. A silent PLAT is probed
// rarely.
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

// next returns how long to wait before the next look.
func (w *platWatch) next(now time.Time) time.Duration {
	flows := !w.flowed.IsZero() && now.Sub(w.flowed) < watchfulAfter
	if flows || now.Before(w.watchful) {
		return lookOften
	}
	return lookRarely
}
