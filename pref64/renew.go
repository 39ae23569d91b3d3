package pref64

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// confirmations spaces the solicitations that are to confirm what an
// advertisement made doubtful, and those for a prefix that has expired (RFC
// 7559 section 2, IRT and MRT).
var confirmations = backoff{solicitationInterval, time.Hour}

// renewal decides when routers are asked although no event of RFC 4861 section
// 6.3.7 calls for it: before something ends that is in use, as a router may
// advertise a PREF64 for 16 s and itself every ten minutes, and after it has
// ended.
type renewal struct {
	asked    time.Time // latest, for what is in use
	confirms int       // solicitations of the present series of confirmations
	confirm  time.Time // of the latest of them
	kept     int       // times in a row that only an answer has kept the prefix in use
	lost     expired
}

// expired is an advertised prefix whose lifetime has ended while it was in use.
type expired struct {
	prefix   netip.Prefix // invalid: there is none
	router   netip.Addr
	lifetime time.Duration
	asked    int       // solicitations since then
	next     time.Time // of the next one
}

// renewAt returns when the router is asked for something heard then that ends
// then: up to three times, in the last 12 s or the second half of the
// lifetime. The zero Time is never.
func renewAt(heard, ends, asked time.Time) time.Time {
	if ends.IsZero() {
		return time.Time{}
	}
	at := ends.Add(-min(ends.Sub(heard)/2, maxSolicitations*solicitationInterval))
	if !asked.Before(at) {
		at = asked.Add(solicitationInterval)
	}
	if !at.Before(ends) {
		return time.Time{}
	}
	return at
}

// renewals returns when the router in use is asked next; zero: never.
func (t *Tracker) renewals() (at time.Time) {
	if t.current.Origin != RA || !t.current.Prefix.IsValid() {
		return t.renewal.lost.next
	}
	for _, e := range t.entries {
		if e.Prefix == t.current.Prefix && e.Origin == RA && e.Router == t.current.Router && !e.stale && !e.mention.superseded {
			at = earlier(at, renewAt(e.heard, e.Expires, t.renewal.asked))
		}
	}
	if i := t.routers.index(t.current.Router); i >= 0 {
		at = earlier(at, renewAt(t.routers.heard[i].last, t.routers.heard[i].until, t.renewal.asked))
	}
	return at
}

// renew asks the routers if it is time.
func (t *Tracker) renew(now time.Time) {
	at := t.renewals()
	if at.IsZero() || now.Before(at) {
		return
	}
	r := &t.renewal
	if r.lost.prefix.IsValid() {
		r.lost.asked++
		r.lost.next = now.Add(confirmations.after(r.lost.asked))
	}
	r.asked = now
	t.solicit()
}

// confirm asks the routers whether what was just heard is the whole truth,
// less and less often while there are such doubts.
func (t *Tracker) confirm(now time.Time) {
	r := &t.renewal
	switch {
	case r.confirm.IsZero() || now.Sub(r.confirm) > confirmations.last:
		r.confirms = 0
	case now.Sub(r.confirm) < confirmations.after(r.confirms):
		return
	}
	r.confirm = now
	r.confirms++
	t.solicit()
}

// refreshed notes that the router in use has said again what it said before.
func (t *Tracker) refreshed(was entry) {
	if was.Prefix != t.current.Prefix || was.Router != t.current.Router || was.Origin != RA {
		return
	}
	if due := renewAt(was.heard, was.Expires, time.Time{}); due.IsZero() || t.renewal.asked.Before(due) {
		t.renewal.kept = 0
	} else {
		t.renewal.kept++
	}
}

// noteLost remembers what is in use and has expired, for words and for asking
// on.
func (t *Tracker) noteLost(now time.Time) {
	i := slices.IndexFunc(t.entries, func(e entry) bool {
		return e.Prefix == t.current.Prefix && e.Origin == RA && e.Router == t.current.Router && !e.Expires.IsZero() && !now.Before(e.Expires)
	})
	if i >= 0 && !t.entries[i].stale {
		e := t.entries[i]
		t.renewal.lost = expired{
			prefix: e.Prefix, router: e.Router, lifetime: e.Expires.Sub(e.heard),
			asked: 0, next: now.Add(confirmations.after(1)),
		}
	}
}

// words says what is wrong with the lifetimes of the network; empty: nothing.
func (r *renewal) words(current Observation) string {
	switch {
	case r.lost.prefix.IsValid():
		return fmt.Sprintf("%v advertised %v for %v and has not repeated it in time; it is asked, and does not answer",
			r.lost.router, r.lost.prefix, r.lost.lifetime.Round(time.Second))
	case r.kept >= keptOften && current.Origin == RA:
		return fmt.Sprintf("%v advertises %v for a shorter time than it lets pass between advertisements; it is asked each time before that ends",
			current.Router, current.Prefix)
	}
	return ""
}

// keptOften is how often an answer must have kept a prefix before it is worth
// a word: a lost advertisement is none.
const keptOften = 2
