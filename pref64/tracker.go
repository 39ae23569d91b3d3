package pref64

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Tracker remembers the prefixes of one uplink and selects the one to use:
//
//   - Prefixes of default routers, DNS and the configuration rank before those
//     of any other neighbour, which are used only if there are no others. A
//     default router is one that advertises a router lifetime or that the host
//     has a default route by (SetRouters).
//   - Of these the best Origin wins; within it the router that the host itself
//     prefers as next hop, then the first to arrive, in the order of the
//     message. Static prefixes are in the order given. Prefixes in doubt come
//     after the others (Doubt).
//   - The prefix in use is kept as long as it is valid and nothing of a better
//     Origin appears. A router that appears later does not replace DNS on a
//     network that has other routers, and DNS is asked further.
//   - Where there is another default router, a prefix whose router is none any
//     more comes after those of DNS.
//   - Full tables evict entries of neighbours first, then those of the owner
//     with the most entries.
//   - An advertised prefix is valid until its lifetime has passed without a
//     refresh, or the router that advertised it withdraws it (RFC 8781
//     section 4). The router is solicited before the lifetime ends. An RA that
//     does not mention the prefix, or whose router lifetime is 0, does not end
//     it, but other prefixes are preferred to one that its router seems to
//     have replaced. Lifetimes run on the monotonic clock, which stands still
//     while the host sleeps: solicit after waking up.
//   - A prefix of DNS is valid until the next answer, or as long as its TTL
//     and a minute more if there is none. It is forgotten when an advertised
//     one that is not in doubt is in use.
//   - A prefix that overlaps one of the link's own is not used (SetOwn), unless
//     only a router that ranks lower makes it the link's own. Nor is one that
//     overlaps an on-link prefix of the same RA.
//   - Short lifetimes are used like long ones: RFC 8781 sets no minimum. A
//     limit on how often the selection may change keeps the CLAT from flapping.
//
// All methods may be called from any goroutine.
type Tracker struct {
	changed chan struct{}

	mu     sync.Mutex
	state  state
	timer  *time.Timer // calls update when something ends next
	closed bool
}

// NewTracker returns a Tracker that knows the given static prefixes. It logs
// what is ignored, each Reason at most once an hour; the log should carry the
// name of the interface. Close the Tracker when it is no longer needed.
func NewTracker(static []netip.Prefix, log *slog.Logger) *Tracker {
	t := &Tracker{changed: make(chan struct{}, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.state = newState(static, log, now)
	t.timer = time.AfterFunc(time.Hour, func() { t.event(func(*state, time.Time) {}) })
	t.update(now)
	return t
}

// event applies change to the state and then updates it, unless t is closed.
func (t *Tracker) event(change func(s *state, now time.Time)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	now := time.Now()
	change(&t.state, now)
	t.update(now)
}

// update updates the state, tells the owner, and sets the timer.
func (t *Tracker) update(now time.Time) {
	tell, at := t.state.update(now)
	if tell {
		select {
		case t.changed <- struct{}{}:
		default:
		}
	}
	if at.IsZero() {
		t.timer.Stop()
	} else {
		t.timer.Reset(at.Sub(now))
	}
}

// Close stops the timer of t. Later events are ignored.
func (t *Tracker) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.state.inquiry.want.ok = false
	t.timer.Stop()
}

// Changed returns a channel that signals when the selected prefix changes and,
// rate-limited, when the MTU does. One signal may stand for several changes.
func (t *Tracker) Changed() <-chan struct{} { return t.changed }

// Current returns the prefix to use; ok is false if there is none. Changes of
// its Router and Expires are not signalled.
func (t *Tracker) Current() (o Observation, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.choice.current, t.state.choice.current.Prefix.IsValid()
}

// IgnoredTotals returns the number of ignored things since the start, by Reason.
func (t *Tracker) IgnoredTotals() [NumReasons]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.ignored.totals
}

// Apply takes in what a Source found.
func (t *Tracker) Apply(r Report) {
	t.event(func(s *state, now time.Time) { s.apply(r, now) })
}

// SetOwn sets the on-link prefixes and the addresses of the uplink, including
// the CLAT's. A PREF64 that equals, contains or lies in one of them is not used
// while it does, even if it was known before.
func (t *Tracker) SetOwn(own []netip.Prefix) {
	t.event(func(s *state, now time.Time) { s.setOwn(own, now) })
}

// SetRouters sets the next hops of the host's own default routes over the
// link.
func (t *Tracker) SetRouters(gateways []Gateway) {
	t.event(func(s *state, _ time.Time) {
		s.routers.set(gateways)
		for _, g := range gateways {
			s.promote(g.Addr)
		}
	})
}

// Doubt reports that the PLAT behind p does not answer: for the duration d
// every other prefix is preferred, whatever its Origin. If there is no other p
// stays in use; if all are in doubt, the one whose doubt ends first is used. A
// d of 0 ends the doubt.
func (t *Tracker) Doubt(p netip.Prefix, d time.Duration) {
	t.event(func(s *state, now time.Time) {
		until := time.Time{}
		if d > 0 {
			until = now.Add(d)
		}
		s.doubts.set(p.Masked(), until)
	})
}

// Unreachable reports that neighbour unreachability detection no longer finds
// a router (RFC 4861 section 7.3). Until the router is heard again, what it has
// advertised is used only while there is nothing else.
func (t *Tracker) Unreachable(router netip.Addr) {
	t.event(func(s *state, _ time.Time) { s.supersede(router) })
}

// AskDNS makes DNS, if it is a source, be asked although routers advertise a
// prefix: its PLAT does not answer. The answer adds candidates.
func (t *Tracker) AskDNS(on bool) {
	t.event(func(s *state, _ time.Time) { s.inquiry.besides = on })
}
