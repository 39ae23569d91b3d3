package pref64

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tnat64d/internal/backoff"
)

// confirmations spaces the solicitations that are to confirm a doubtful
// advertisement, and those for a prefix that has expired (RFC 7559 section 2,
// IRT and MRT).
var confirmations = backoff.Backoff{First: solicitationInterval, Last: time.Hour}

// keptOften is how often in a row an answer must have kept a prefix before
// status reports it: a single advertisement may have been lost.
const keptOften = 2

// renewal decides when routers are solicited although no event of RFC 4861
// section 6.3.7 calls for it: before something ends that is in use, as a router
// may advertise a PREF64 for 16 s and itself every ten minutes, and after it
// has ended.
type renewal struct {
	asked    time.Time // latest, for what is in use
	confirms int       // solicitations of the present series of confirmations
	confirm  time.Time // of the latest of them
	kept     int       // times in a row that only a solicited advertisement has kept the prefix in use
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

// due returns when the router in use is solicited next; zero: never.
func (r *renewal) due(s selection) (at time.Time) {
	if s.inUse.Origin != RA || !s.inUse.Prefix.IsValid() {
		return r.lost.next
	}
	for e := range s.prefixes.of(s.inUse.Router) {
		if e.Prefix == s.inUse.Prefix && !e.stale && !e.mention.superseded {
			at = earlier(at, renewAt(e.heard, e.Expires, r.asked))
		}
	}
	if i := s.routers.index(s.inUse.Router); i >= 0 {
		at = earlier(at, renewAt(s.routers.heard[i].last, s.routers.heard[i].until, r.asked))
	}
	return at
}

// ask reports whether a solicitation is due at now, and counts it.
func (r *renewal) ask(s selection, now time.Time) bool {
	at := r.due(s)
	if at.IsZero() || now.Before(at) {
		return false
	}
	if r.lost.prefix.IsValid() {
		r.lost.asked++
		r.lost.next = now.Add(confirmations.Jittered(r.lost.asked))
	}
	r.asked = now
	return true
}

// question reports whether to solicit because what was just heard is doubtful,
// and counts it: less and less often while there are such doubts.
func (r *renewal) question(now time.Time) bool {
	switch {
	case r.confirm.IsZero() || now.Sub(r.confirm) > confirmations.Last:
		r.confirms = 0
	case now.Sub(r.confirm) < confirmations.Jittered(r.confirms):
		return false
	}
	r.confirm = now
	r.confirms++
	return true
}

// refreshed notes that the router in use advertises again what was e so far.
func (r *renewal) refreshed(e entry, s selection) {
	if !s.isInUse(e) || e.Origin != RA {
		return
	}
	if due := renewAt(e.heard, e.Expires, time.Time{}); due.IsZero() || r.asked.Before(due) {
		r.kept = 0
	} else {
		r.kept++
	}
}

// expire remembers the prefix in use if its lifetime has ended: its router is
// asked further, and status reports it.
func (r *renewal) expire(s selection, now time.Time) {
	i := slices.IndexFunc(s.prefixes, func(e entry) bool { return s.isInUse(e) && e.Origin == RA && ended(e.Expires, now) })
	if i < 0 || s.prefixes[i].stale || s.prefixes[i].Remembered && s.prefixes[i].mention.superseded {
		return
	}
	e := s.prefixes[i]
	r.lost = expired{
		prefix: e.Prefix, router: e.Router, lifetime: e.Expires.Sub(e.heard),
		next: now.Add(confirmations.Jittered(1)),
	}
}

// adopted notes that next is in use from now on.
func (r *renewal) adopted(next Observation) {
	r.kept = 0
	if next.Prefix.IsValid() {
		r.lost = expired{}
	}
}

// words says what is wrong with the lifetimes of the network; empty: nothing.
func (r *renewal) words(current Observation) string {
	switch {
	case r.lost.prefix.IsValid():
		return fmt.Sprintf("%v advertised %v for %v, did not repeat it in time and does not answer router solicitations",
			r.lost.router, r.lost.prefix, r.lost.lifetime.Round(time.Second))
	case r.kept >= keptOften && current.Origin == RA:
		return fmt.Sprintf("%v advertises %v with a lifetime shorter than its advertisement interval; it is solicited before each expiry",
			current.Router, current.Prefix)
	}
	return ""
}
