package pref64

import (
	"cmp"
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
//     message. Static prefixes are in the order given. Prefixes in doubt come
//     after all others (Doubt).
//   - The prefix in use is kept as long as it is valid and nothing of a better
//     Origin appears, whatever else arrives.
//   - An advertised prefix is valid until its lifetime has passed without a
//     refresh, or the router that advertised it withdraws it (RFC 8781
//     section 4). An RA that does not mention it, or whose router lifetime is
//     0, does not end it. Lifetimes run on the monotonic clock, which stands
//     still while the host sleeps: solicit after waking up.
//   - A prefix of DNS is valid until the next answer, or as long as its TTL
//     and a minute more if there is none. It is forgotten when one that is
//     advertised, and not in doubt, is in use.
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

	mu         sync.Mutex
	entries    []entry // in the order of arrival
	own        []netip.Prefix
	home       netip.Prefix  // what would be in use if nothing were in doubt
	current    Observation   // valid if current.Prefix is
	candidates []Observation // usable, one for each prefix, current first; none if current is not valid
	mtu        int
	link       attachment
	resolvers  []resolver // in the order of arrival
	doubts     []doubt
	inquiry    inquiry
	ignored    ledger
	timer      *time.Timer // runs update at the next time something ends
	closed     bool

	// adopted is where the adoptions made so far have pushed the time, each
	// by flapInterval, as in a token bucket (generic cell rate algorithm).
	adopted time.Time
	held    netip.Prefix // waits for its turn; invalid if nothing does

	news news
}

type entry struct {
	Observation
	inRA  bool // overlapped a prefix of the last RA it came in
	stale bool // heard before the present attachment
}

// NewTracker returns a Tracker that knows the given static prefixes. The log
// hears what is ignored, each Reason at most once an hour; it should carry the
// name of the interface. Close the Tracker when it is no longer needed.
func NewTracker(static []netip.Prefix, log *slog.Logger) *Tracker {
	t := &Tracker{
		changed: make(chan struct{}, 1),
		ignored: ledger{log: log},
		inquiry: inquiry{wake: make(chan struct{}, 1)},
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.link.since = now
	t.timer = time.AfterFunc(time.Hour, t.tick)
	t.news.digest = t.digest()
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
// another one, or none, and after MTU has changed, for that only so often.
// Several changes may be one message.
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
	if r.RA != nil && r.RA.MTU != 0 {
		t.mtu = r.RA.MTU
	}
	for _, o := range r.Observations {
		t.observe(o, r.RA, now)
	}
	for _, d := range r.Resolvers {
		t.hearResolver(d, now)
	}
	if r.RA != nil {
		t.hearRA(r.RA, now)
	}
	t.update(now)
}

// hearRA takes in what ra says besides prefixes and resolvers.
func (t *Tracker) hearRA(ra *RouterAdvertisement, now time.Time) {
	t.link.heardRA = true
	t.hearPrefixes(ra, now)
	if ra.RouterLifetime == 0 {
		return
	}
	t.link.heardDefault = true
	if !t.link.unsettled.IsZero() {
		t.settle(ra)
	}
	if t.link.notCarried.IsZero() && !t.carried() {
		t.link.notCarried = now
	}
}

// carried reports whether routers of this attachment advertise a usable PREF64.
func (t *Tracker) carried() bool {
	return slices.ContainsFunc(t.entries, func(e entry) bool {
		return e.Origin == RA && !e.stale && t.usable(e)
	})
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
	e.Observation, e.stale = o, false
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
	t.expire(now)

	t.home = first(t.ranked(t.home, false)).Prefix
	keep := t.home
	if !t.doubted(keep).IsZero() {
		keep = t.current.Prefix
	}
	order := t.ranked(keep, true)
	next, held := first(order), netip.Prefix{}
	if next.Prefix != t.current.Prefix {
		if next.Origin != Static && now.Before(t.turn()) {
			held = next.Prefix
			if held != t.held {
				t.ignored.note(Ignored{Reason: Flapping, Prefix: next.Prefix, Router: next.Router}, now)
			}
			next = find(order, t.current.Prefix)
		} else if next.Origin != Static {
			t.adopted = later(t.adopted, now).Add(flapInterval)
		}
	}
	told := next.Prefix != t.current.Prefix
	if told {
		t.notify()
	}
	t.current, t.held = next, held
	t.candidates = nil
	if next.Prefix.IsValid() {
		t.candidates = append(t.candidates, next)
		for _, o := range order {
			if o.Prefix != next.Prefix {
				t.candidates = append(t.candidates, o)
			}
		}
	}
	t.inquire(now)
	t.announce(now, told)
	t.setTimer(now)
}

// expire forgets what has ended.
func (t *Tracker) expire(now time.Time) {
	over := func(end time.Time) bool { return !end.IsZero() && !now.Before(end) }
	t.entries = slices.DeleteFunc(t.entries, func(e entry) bool { return over(e.Expires) })
	t.resolvers = slices.DeleteFunc(t.resolvers, func(r resolver) bool { return over(r.Expires) })
	t.link.onLink = slices.DeleteFunc(t.link.onLink, func(o onLink) bool { return over(o.expires) })
	t.doubts = slices.DeleteFunc(t.doubts, func(d doubt) bool { return over(d.until) })
	if over(t.link.unsettled) {
		t.settle(nil)
	}
}

// ranked returns the usable prefixes, each once, best first: by doubt, if
// doubts count, then those heard since the link was attached, then by Origin,
// then keep, then in the order of arrival.
func (t *Tracker) ranked(keep netip.Prefix, doubts bool) []Observation {
	until := func(p netip.Prefix) time.Time {
		if !doubts {
			return time.Time{}
		}
		return t.doubted(p)
	}
	var usable []entry
	for _, e := range t.entries {
		if t.usable(e) {
			e.Doubted = !until(e.Prefix).IsZero()
			usable = append(usable, e)
		}
	}
	slices.SortStableFunc(usable, func(a, b entry) int {
		return cmp.Or(
			until(a.Prefix).Compare(until(b.Prefix)), // zero is before all
			no(a.stale, b.stale),
			cmp.Compare(a.Origin, b.Origin),
			-no(a.Prefix == keep, b.Prefix == keep),
		)
	})
	var order []Observation
	for _, e := range usable {
		if !find(order, e.Prefix).Prefix.IsValid() {
			order = append(order, e.Observation)
		}
	}
	return order
}

// no orders what is not so before what is.
func no(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// first returns the first of order, or the zero Observation.
func first(order []Observation) Observation {
	if len(order) == 0 {
		return Observation{}
	}
	return order[0]
}

// find returns the Observation with the prefix p, or the zero Observation.
func find(order []Observation, p netip.Prefix) Observation {
	for _, o := range order {
		if o.Prefix == p {
			return o
		}
	}
	return Observation{}
}

// turn is the earliest time at which an advertised prefix may be adopted.
func (t *Tracker) turn() time.Time { return t.adopted.Add(-(flapBurst - 1) * flapInterval) }

func (t *Tracker) setTimer(now time.Time) {
	var at time.Time
	for _, e := range t.entries {
		at = earlier(at, e.Expires)
	}
	for _, r := range t.resolvers {
		at = earlier(at, r.Expires)
	}
	for _, o := range t.link.onLink {
		at = earlier(at, o.expires)
	}
	for _, d := range t.doubts {
		at = earlier(at, d.until)
	}
	at = earlier(at, t.link.unsettled)
	at = earlier(at, t.news.at)
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
