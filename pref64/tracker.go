package pref64

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// A link has one PREF64, rarely two or three. More than maxPrefixes
	// advertised ones are an accident or an attack; at most maxPerRouter come
	// from one router, so that it cannot lock out the others.
	maxPrefixes  = 16
	maxPerRouter = 8

	// Each change of PREF64 breaks every flow through the CLAT and moves its
	// address. RFC 8781 allows lifetimes down to 8 s and withdrawal at any
	// time, so a link, by accident or malice, could make the CLAT move
	// forever. Advertised prefixes may therefore be adopted flapBurst times at
	// once and then once every flapInterval. Giving up a prefix that has
	// ended never waits.
	flapBurst    = 8
	flapInterval = 30 * time.Second
)

// Tracker remembers the prefixes of one uplink and chooses the one to use:
//
//   - The best Origin wins; within it the first to arrive, in the order of the
//     message. Static prefixes are in the order given.
//   - The prefix in use is kept as long as it is valid and nothing of a better
//     Origin appears, whatever else arrives.
//   - An advertised prefix is valid until its lifetime has passed without a
//     refresh, or the router that advertised it withdraws it (RFC 8781
//     section 4). An RA that does not mention it, or whose router lifetime is
//     0, does not end it. Lifetimes run on the monotonic clock, which stands
//     still while the host sleeps: solicit after waking up.
//   - A prefix that overlaps one of the link's own is not used (SetOwn). Nor
//     is one that overlaps a prefix of the same RA, which will be the link's
//     own in a moment.
//   - Short lifetimes are used like long ones: RFC 8781 names no minimum. They
//     are kept from making the CLAT flap by a limit on how often the choice may
//     change.
//
// All methods may be called from any goroutine.
type Tracker struct {
	changed chan struct{}

	mu      sync.Mutex
	entries []entry // in the order of arrival
	own     []netip.Prefix
	current Observation // valid if current.Prefix is
	mtu     int
	ignored ledger
	timer   *time.Timer // runs update at the next time something ends
	closed  bool

	// adopted is where the adoptions made so far have pushed the time, each
	// by flapInterval, as in a token bucket (generic cell rate algorithm).
	adopted time.Time
	held    netip.Prefix // waits for its turn; invalid if nothing does
}

type entry struct {
	Observation
	inRA bool // overlapped a prefix of the last RA it came in
}

// NewTracker returns a Tracker that knows the given static prefixes. The log
// hears what is ignored, each Reason at most once an hour; it should carry the
// name of the interface. Close the Tracker when it is no longer needed.
func NewTracker(static []netip.Prefix, log *slog.Logger) *Tracker {
	t := &Tracker{
		changed: make(chan struct{}, 1),
		ignored: ledger{log: log},
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.timer = time.AfterFunc(time.Hour, t.tick)
	for _, p := range static {
		t.observe(Observation{Prefix: p, Origin: Static}, nil, now)
	}
	t.update(now)
	return t
}

// Close stops the Tracker's timer. The Tracker does not change any more.
func (t *Tracker) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.timer.Stop()
}

// Changed returns a channel that is sent to after the prefix to use has become
// another one, or none, and after MTU has changed. Several changes may be one
// message.
func (t *Tracker) Changed() <-chan struct{} { return t.changed }

// Current returns the prefix to use. Its Router and Expires are those of now;
// their changes are not announced.
func (t *Tracker) Current() (Observation, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current, t.current.Prefix.IsValid()
}

// MTU returns the bytes that the last RA with an MTU option allows on the
// link, or 0. It counts only where it is less than the interface's own MTU
// (RFC 4861 section 6.3.4).
func (t *Tracker) MTU() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mtu
}

// Ignored returns what was heard lately and is not used, the latest last.
func (t *Tracker) Ignored() []Ignored {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.ignored.recent)
}

// IgnoredTotals returns how many things were ignored since the start, by Reason.
func (t *Tracker) IgnoredTotals() [NumReasons]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ignored.totals
}

// SetOwn tells the Tracker the on-link prefixes and the addresses of the
// uplink, the CLAT's own included. A PREF64 that equals, contains or lies in
// one of them is not used, also if it was known before, and may be used once
// it no longer does.
func (t *Tracker) SetOwn(own []netip.Prefix) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	now := time.Now()
	before := t.own
	t.own = slices.Clone(own)
	for _, e := range t.entries {
		if overlaps(e.Prefix, t.own) && !overlaps(e.Prefix, before) {
			t.ignored.note(Ignored{Reason: OwnPrefix, Prefix: e.Prefix, Router: e.Router}, now)
		}
	}
	t.update(now)
}

// Forget drops everything that was advertised, for when the uplink may have
// become another network. Prefixes live up to 18 hours, and the one in use
// would otherwise be kept.
func (t *Tracker) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.entries = slices.DeleteFunc(t.entries, func(e entry) bool { return e.Origin != Static })
	t.adopted = time.Time{}
	if t.mtu != 0 {
		t.mtu = 0
		t.notify()
	}
	t.update(time.Now())
}

// Apply takes in what a Source found.
func (t *Tracker) Apply(r Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	now := time.Now()
	for _, ig := range r.Ignored {
		t.ignored.note(ig, now)
	}
	if r.RA != nil && r.RA.MTU != 0 && r.RA.MTU != t.mtu {
		t.mtu = r.RA.MTU
		t.notify()
	}
	for _, o := range r.Observations {
		t.observe(o, r.RA, now)
	}
	t.update(now)
}

// observe enters o into the table. ra is the message it came in, if known.
func (t *Tracker) observe(o Observation, ra *RouterAdvertisement, now time.Time) {
	refuse := func(reason Reason) {
		t.ignored.note(Ignored{Reason: reason, Prefix: o.Prefix, Router: o.Router}, now)
	}
	prefix, err := Check(o.Prefix)
	if err != nil {
		refuse(BadPrefix)
		return
	}
	o.Prefix = prefix

	i := slices.IndexFunc(t.entries, func(e entry) bool {
		return e.Prefix == o.Prefix && e.Origin == o.Origin && e.Router == o.Router
	})
	if o.Withdrawn {
		if i >= 0 {
			t.entries = slices.Delete(t.entries, i, i+1)
		}
		return
	}
	if i < 0 {
		if o.Origin != Static && t.full(o.Router) {
			refuse(TooMany)
			return
		}
		i = len(t.entries)
		t.entries = append(t.entries, entry{})
	}
	e := &t.entries[i]
	e.Observation = o
	if ra != nil {
		e.inRA = ra.contains(o.Prefix)
	}
	if !t.usable(*e) {
		refuse(OwnPrefix)
	}
}

// full reports whether no further prefix is taken from router.
func (t *Tracker) full(router netip.Addr) bool {
	all, its := 0, 0
	for _, e := range t.entries {
		if e.Origin == Static {
			continue
		}
		all++
		if e.Router == router {
			its++
		}
	}
	return all >= maxPrefixes || its >= maxPerRouter
}

func (t *Tracker) usable(e entry) bool { return !e.inRA && !overlaps(e.Prefix, t.own) }

func overlaps(p netip.Prefix, with []netip.Prefix) bool {
	return slices.ContainsFunc(with, p.Overlaps)
}

// contains reports whether p overlaps a prefix that the RA makes the link's own.
func (ra *RouterAdvertisement) contains(p netip.Prefix) bool {
	return slices.ContainsFunc(ra.Prefixes, func(own PrefixInfo) bool {
		return (own.OnLink || own.Autonomous) && own.Valid > 0 && own.Prefix.Overlaps(p)
	})
}

func (t *Tracker) tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.update(time.Now())
	}
}

// update forgets what has expired, chooses again, and sets the timer.
func (t *Tracker) update(now time.Time) {
	t.entries = slices.DeleteFunc(t.entries, func(e entry) bool {
		return !e.Expires.IsZero() && !now.Before(e.Expires)
	})

	next, held := t.choose(), netip.Prefix{}
	if next.Prefix != t.current.Prefix {
		if next.Origin != Static && now.Before(t.turn()) {
			held = next.Prefix
			if held != t.held {
				t.ignored.note(Ignored{Reason: Flapping, Prefix: next.Prefix, Router: next.Router}, now)
			}
			next = Observation{}
		} else if next.Origin != Static {
			t.adopted = later(t.adopted, now).Add(flapInterval)
		}
	}
	if next.Prefix != t.current.Prefix {
		t.notify()
	}
	t.current, t.held = next, held
	t.setTimer(now)
}

// choose returns the prefix to use, or the zero Observation.
func (t *Tracker) choose() Observation {
	var best Observation
	for _, e := range t.entries {
		o := e.Observation
		keeps := o.Prefix == t.current.Prefix && best.Prefix != t.current.Prefix
		if t.usable(e) && (!best.Prefix.IsValid() || o.Origin < best.Origin || o.Origin == best.Origin && keeps) {
			best = o
		}
	}
	return best
}

// turn is the earliest time at which an advertised prefix may be adopted.
func (t *Tracker) turn() time.Time { return t.adopted.Add(-(flapBurst - 1) * flapInterval) }

func (t *Tracker) setTimer(now time.Time) {
	var at time.Time
	for _, e := range t.entries {
		at = earlier(at, e.Expires)
	}
	if t.held.IsValid() {
		at = earlier(at, t.turn())
	}
	if at.IsZero() {
		t.timer.Stop()
		return
	}
	t.timer.Reset(at.Sub(now))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// earlier returns the earlier of two times, where zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (t *Tracker) notify() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}
