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
//   - What a default router of the link says, and what DNS and the
//     configuration say, counts before what any other neighbour says, which is
//     used only if there is nothing else. A default router is one that
//     advertises a router lifetime or that the host has a default route by
//     (SetRouters).
//   - Of these the best Origin wins; within it the router that the host itself
//     prefers as next hop, then the first to arrive, in the order of the
//     message. Static prefixes are in the order given. Prefixes in doubt come
//     after the others (Doubt).
//   - The prefix in use is kept as long as it is valid and nothing of a better
//     Origin appears, whatever else arrives. A router that appears later does
//     not replace what DNS says on a network that has other routers.
//   - Full tables make room for default routers, then for those that have said
//     least (admit).
//   - An advertised prefix is valid until its lifetime has passed without a
//     refresh, or the router that advertised it withdraws it (RFC 8781
//     section 4). The router is asked before the lifetime ends (renewal). An
//     RA that does not mention it, or whose router lifetime is 0, does not end
//     it, but other prefixes are preferred to one that its router seems to
//     have replaced (mention). Lifetimes run on the monotonic clock, which stands
//     still while the host sleeps: solicit after waking up.
//   - A prefix of DNS is valid until the next answer, or as long as its TTL
//     and a minute more if there is none. It is forgotten when one that is
//     advertised, and not in doubt, is in use.
//   - A prefix that overlaps one of the link's own is not used (SetOwn), unless
//     only a router with less of a say makes it the link's own. Nor is one that
//     overlaps a prefix of the same RA, which will be the link's own in a
//     moment.
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
	since      time.Time     // when current.Prefix was adopted
	said       Observation   // the last one that the log was told of
	candidates []Observation // usable, one for each prefix, current first; none if current is not valid
	mtu        int
	link       attachment
	routers    routers
	renewal    renewal
	ask        func()     // sends a Router Solicitation soon; nil: nobody can
	resolvers  []resolver // in the order of arrival
	doubts     []doubt
	inquiry    inquiry
	ignored    ledger
	timer      *time.Timer // runs update at the next time something ends
	closed     bool

	// adopted is where the adoptions made so far have pushed the time, each
	// by flapInterval, as in a token bucket (generic cell rate algorithm).
	adopted time.Time
	// renumbered is the same for prefixes that are superseded.
	renumbered time.Time
	held       netip.Prefix // waits for its turn; invalid if nothing does

	news news
}

type entry struct {
	Observation
	heard    time.Time // last
	byRouter bool      // Router was a default router when it last said so
	mention  mention
	inRA     bool // overlapped a prefix of the last RA it came in
	stale    bool // heard before the present attachment
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
	t.forgetOnLink(now)
	for _, e := range t.entries {
		if t.owns(e) && !overlaps(e.Prefix, before) {
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
	doubtful := false
	if r.RA != nil {
		doubtful = t.routers.hear(r.RA, now) && r.RA.Router == t.current.Router
		doubtful = t.hearMentions(r.RA, now) || doubtful
		t.promote(r.RA.Router)
		// Anybody else could make the MTU the least that there is.
		if r.RA.MTU != 0 && (t.routers.isDefault(r.RA.Router) || !t.routers.any()) {
			t.mtu = r.RA.MTU
		}
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
	if doubtful {
		t.confirm(now)
	}
	t.update(now)
}

// SetRouters tells the Tracker the next hops of the host's own default routes
// over the link.
func (t *Tracker) SetRouters(gateways []Gateway) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.routers.set(gateways)
	for _, g := range gateways {
		t.promote(g.Addr)
	}
	t.update(time.Now())
}

// promote makes what a said before it was known as a default router count as a
// default router's.
func (t *Tracker) promote(a netip.Addr) {
	if !t.routers.isDefault(a) {
		return
	}
	for i := range t.entries {
		if e := &t.entries[i]; e.Origin == RA && e.Router == a {
			e.byRouter = true
		}
	}
	for i := range t.link.onLink {
		if o := &t.link.onLink[i]; o.router == a {
			o.byRouter = true
		}
	}
}

// judge returns what decides about the places of a router, or resolver, in a
// full table.
func (t *Tracker) judge(a netip.Addr) (class, age int) {
	i := t.routers.index(a)
	switch {
	case t.routers.isGateway(a):
		class = 0
	case i >= 0:
		class = 1
	case t.isResolver(a):
		class = 2
	default:
		class = 3
	}
	if i < 0 {
		i = maxRouters
	}
	return class, i
}

// isResolver reports whether a prefix in the table is from the resolver a.
func (t *Tracker) isResolver(a netip.Addr) bool {
	return slices.ContainsFunc(t.entries, func(e entry) bool { return e.Origin == DNS && e.Router == a })
}

// solicit asks the routers, if somebody can.
func (t *Tracker) solicit() {
	if t.ask != nil {
		t.ask()
	}
}

// hearRA takes in what ra says besides prefixes and resolvers.
func (t *Tracker) hearRA(ra *RouterAdvertisement, now time.Time) {
	t.link.heardRA = true
	t.hearPrefixes(ra, now)
	if len(ra.PREF64) == 0 && ra.Router == t.renewal.lost.router {
		t.renewal.lost = expired{} // it has not forgotten to repeat it: it has none
	}
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

// carried reports whether default routers of this attachment advertise a
// usable PREF64.
func (t *Tracker) carried() bool {
	return slices.ContainsFunc(t.entries, func(e entry) bool {
		return e.Origin == RA && e.byRouter && !e.stale && t.usable(e)
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
			if o.Prefix == t.current.Prefix && o.Router == t.current.Router {
				t.confirm(now) // anybody can say so in the name of the router
			}
			t.entries = slices.Delete(t.entries, i, i+1)
		}
		return
	}
	if i < 0 {
		if i = t.place(o); i < 0 {
			refuse(TooMany)
			return
		}
	} else {
		t.refreshed(t.entries[i])
	}
	e := &t.entries[i]
	e.Observation, e.heard, e.stale = o, now, false
	e.byRouter = o.Origin == RA && (t.routers.isDefault(o.Router) || e.byRouter && ra == nil)
	if ra != nil {
		e.inRA = ra.contains(o.Prefix)
		e.mention.whole = true
	}
	if !t.usable(*e) {
		refuse(OwnPrefix)
	}
}

// place makes room for a prefix and returns its index, or -1 if it is not
// taken.
func (t *Tracker) place(o Observation) int {
	if o.Origin != Static {
		var at []int // of the entries that are not static
		for i, e := range t.entries {
			if e.Origin != Static {
				at = append(at, i)
			}
		}
		evict, ok := admit(len(at), maxPrefixes, maxPerRouter, func(i int) netip.Addr {
			if e := t.entries[at[i]]; e.Prefix != t.current.Prefix || e.Router != t.current.Router {
				return e.Router
			}
			return netip.Addr{}
		}, o.Router, t.judge)
		switch {
		case !ok:
			return -1
		case evict >= 0:
			t.entries = slices.Delete(t.entries, at[evict], at[evict]+1)
		}
	}
	t.entries = append(t.entries, entry{})
	return len(t.entries) - 1
}

func (t *Tracker) usable(e entry) bool { return !e.inRA && !t.owns(e) }

// owns reports whether the prefix of e overlaps one of the link's own that
// counts against it.
func (t *Tracker) owns(e entry) bool {
	return slices.ContainsFunc(t.own, func(own netip.Prefix) bool {
		return own.Overlaps(e.Prefix) && !t.excused(own, e)
	})
}

// excused reports whether own, a prefix of the host, does not count against e:
// the host has formed an address in it only because of routers that have less
// of a say than who says e. The kernel believes any station on the link.
func (t *Tracker) excused(own netip.Prefix, e entry) bool {
	said := false
	for _, o := range t.link.onLink {
		if o.prefix != own {
			continue
		}
		said = true
		byDefault := o.byRouter || t.routers.isDefault(o.router)
		inUse := e.Prefix == t.current.Prefix && o.since.After(t.since)
		if o.router == e.Router || byDefault && !e.byRouter && !inUse {
			return false
		}
	}
	return said
}

// excuses returns the prefixes of the host that overlap a usable PREF64 and do
// not count against it.
func (t *Tracker) excuses() (all []netip.Prefix) {
	for _, o := range t.candidates {
		for _, own := range t.own {
			if own.Overlaps(o.Prefix) && !slices.Contains(all, own) {
				all = append(all, own)
			}
		}
	}
	return all
}

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
		t.say(next)
		t.since = now
		t.renewal.kept = 0
		if next.Prefix.IsValid() {
			t.renewal.lost = expired{}
		}
		t.notify()
	}
	t.current, t.held = next, held
	t.renew(now)
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
	t.noteLost(now)
	t.routers.expire(now)
	t.forgetOnLink(now)
	t.entries = slices.DeleteFunc(t.entries, func(e entry) bool { return over(e.Expires) })
	t.resolvers = slices.DeleteFunc(t.resolvers, func(r resolver) bool { return over(r.Expires) })
	t.doubts = slices.DeleteFunc(t.doubts, func(d doubt) bool { return over(d.until) })
	if over(t.link.unsettled) {
		t.settle(nil)
	}
}

// say tells the log whose word is followed from now on. A prefix that comes
// back from the same router is no news.
func (t *Tracker) say(next Observation) {
	if !next.Prefix.IsValid() || next.Prefix == t.said.Prefix && next.Router == t.said.Router {
		return
	}
	t.said = next
	args := []any{"pref64", next.Prefix, "source", next.Origin.String()}
	switch {
	case next.Origin == DNS:
		args = append(args, "resolver", next.Router)
	case next.Neighbour:
		args = append(args, "neighbour", next.Router)
	case next.Origin == RA:
		args = append(args, "router", next.Router)
	}
	if t.current.Prefix.IsValid() {
		args = append(args, "instead_of", t.current.Prefix)
	}
	t.ignored.log.Info("PREF64 is adopted", args...)
}

// class orders the sources of a prefix, the best first.
type class int

const (
	byConfiguration class = iota
	byAdvertisement
	byDNS
	replaced // by its router, as it seems
	staleAdvertisement
	staleDNS
	byNeighbour
	staleNeighbour
)

func (t *Tracker) class(e entry) class {
	switch {
	case e.Origin == Static:
		return byConfiguration
	case e.Origin == RA && !e.byRouter && e.stale:
		return staleNeighbour
	case e.Origin == RA && !e.byRouter:
		return byNeighbour
	case e.stale && e.Origin == DNS:
		return staleDNS
	case e.stale:
		return staleAdvertisement
	case e.Origin == DNS:
		return byDNS
	case e.mention.superseded:
		return replaced
	case t.current.Origin == DNS && t.routers.newcomer(e.Router, t.since):
		return byDNS
	}
	return byAdvertisement
}

// ranked returns the usable prefixes, each once, best first: those of a mere
// neighbour last, then by doubt, if doubts count, then by class, then keep,
// then as the host prefers their routers, then in the order of arrival.
func (t *Tracker) ranked(keep netip.Prefix, doubts bool) []Observation {
	until := func(p netip.Prefix) time.Time {
		if !doubts {
			return time.Time{}
		}
		return t.doubted(p)
	}
	var usable []entry
	for _, e := range t.entries {
		if t.usable(e) && !(t.class(e) >= byNeighbour && t.awaitsDNS()) {
			e.Doubted = !until(e.Prefix).IsZero()
			e.Neighbour = t.class(e) >= byNeighbour
			usable = append(usable, e)
		}
	}
	slices.SortStableFunc(usable, func(a, b entry) int {
		x, y := t.class(a), t.class(b)
		byRouters := 0
		if a.Origin == RA && b.Origin == RA {
			byRouters = t.routers.compare(a.Router, b.Router)
		}
		return cmp.Or(
			no(x >= byNeighbour, y >= byNeighbour),
			until(a.Prefix).Compare(until(b.Prefix)), // zero is before all
			cmp.Compare(x, y),
			-no(a.Prefix == keep, b.Prefix == keep),
			-no(t.isCurrent(a), t.isCurrent(b)),
			byRouters,
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

// isCurrent reports whether e is what is in use, as the router says whose word
// is followed.
func (t *Tracker) isCurrent(e entry) bool {
	return e.Prefix == t.current.Prefix && e.Router == t.current.Router
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
		if !o.over {
			at = earlier(at, o.expires)
		}
		if !o.preferred.IsZero() && o.preferred.After(now) {
			at = earlier(at, o.preferred)
		}
	}
	at = earlier(at, t.routers.next())
	at = earlier(at, t.renewals())
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
