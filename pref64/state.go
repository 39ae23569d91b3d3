package pref64

import (
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// state is what a Tracker knows. Each event enters something into its tables;
// update then draws the conclusions.
type state struct {
	tables
	link       attachment
	mtu        int // bytes, of the last RA with an MTU option; 0: none
	choice     choice
	renewal    renewal
	renumbered pace // superseded prefixes
	inquiry    inquiry
	news       news
	ignored    ledger
	adoptions  adoptionLog
	solicit    func() // sends a Router Solicitation soon
}

// newState returns a state that knows the given static prefixes.
func newState(static []netip.Prefix, log *slog.Logger, now time.Time) state {
	s := state{
		link:       attachment{since: now},
		choice:     choice{limits: newFlapLimits()},
		renumbered: pace{burst: renumberBurst, interval: flapInterval},
		inquiry:    inquiry{wake: make(chan struct{}, 1)},
		ignored:    ledger{log: log},
		adoptions:  adoptionLog{log: log},
		solicit:    func() {},
	}
	s.news = newNews(false, digest(&s, now))
	for _, p := range static {
		s.observe(Observation{Prefix: p, Origin: Static}, nil, now)
	}
	return s
}

// selection returns the selection from the tables as they are now.
func (s *state) selection() selection {
	return selection{tables: &s.tables, inUse: s.choice.current, since: s.choice.since, awaitsDNS: s.inquiry.awaited()}
}

// apply takes in what a Source found.
func (s *state) apply(r Report, now time.Time) {
	for _, ig := range r.Ignored {
		s.ignored.note(ig, now)
	}
	doubtful := false
	if r.RA != nil {
		doubtful = s.routers.hear(r.RA, now) && (r.RA.Router == s.choice.current.Router || s.choice.current.Origin == DNS)
		doubtful = s.refute(r.RA, now) || doubtful
		doubtful = s.hearMentions(r.RA, &s.renumbered, now) || doubtful
		s.promote(r.RA.Router)
		// Any other neighbour could set the MTU to the minimum.
		if r.RA.MTU != 0 && (s.routers.isDefault(r.RA.Router) || !s.routers.any()) {
			s.mtu = r.RA.MTU
		}
	}
	for _, o := range r.Observations {
		s.observe(o, r.RA, now)
	}
	for _, d := range r.Resolvers {
		if !s.resolvers.hear(d, s.routers.isDefault(d.Router), s.judge) {
			s.ignored.note(Ignored{Reason: TooMany, Router: d.Router}, now)
		}
	}
	if r.RA != nil {
		s.hearRA(r.RA, now)
	}
	if doubtful {
		s.question(now)
	}
}

// hearRA takes in what ra says besides prefixes and resolvers.
func (s *state) hearRA(ra *RouterAdvertisement, now time.Time) {
	for _, p := range ra.Prefixes {
		if !s.onLink.hear(p, ra.Router, s.routers.isDefault(ra.Router), s.own, s.judge, now) {
			s.ignored.note(Ignored{Reason: TooMany, Prefix: p.Prefix, Router: ra.Router}, now)
		}
	}
	s.onLink.expire(s.own, now)
	if len(ra.PREF64) == 0 && ra.Router == s.renewal.lost.router {
		s.renewal.lost = expired{} // the router has not failed to repeat it: it has none
	}
	if ra.RouterLifetime == 0 {
		s.link.heard = max(s.link.heard, neighbourRA)
		return
	}
	s.link.heard = defaultRouterRA
	if s.link.identity != settled {
		s.settle(ra)
	}
	if s.link.pref64 == undecided && !s.selection().carried() {
		s.link.pref64, s.link.without = notCarried, now
	}
}

// observe enters o into the table of prefixes. ra is the message it came in,
// if known.
func (s *state) observe(o Observation, ra *RouterAdvertisement, now time.Time) {
	refuse := func(reason Reason) {
		s.ignored.note(Ignored{Reason: reason, Prefix: o.Prefix, Router: o.Router}, now)
	}
	prefix, err := Check(o.Prefix)
	if err != nil {
		refuse(BadPrefix)
		return
	}
	o.Prefix = prefix

	i := s.prefixes.index(o)
	if o.Withdrawn {
		if i >= 0 {
			if s.selection().isInUse(s.prefixes[i]) {
				s.question(now) // any station can forge a withdrawal
			}
			s.prefixes = slices.Delete(s.prefixes, i, i+1)
		}
		return
	}
	if i < 0 {
		if i = s.prefixes.place(o, s.choice.current, s.judge); i < 0 {
			refuse(TooMany)
			return
		}
	} else {
		s.renewal.refreshed(s.prefixes[i], s.selection())
	}
	e := &s.prefixes[i]
	e.Observation, e.heard, e.stale = o, now, false
	e.byRouter = o.Origin == RA && (s.routers.isDefault(o.Router) || e.byRouter && ra == nil)
	if ra != nil {
		e.inRA = ra.contains(o.Prefix)
		e.mention.whole = true
	}
	if !s.selection().usable(*e) {
		refuse(OwnPrefix)
	}
}

// setOwn replaces the prefixes of the host.
func (s *state) setOwn(own []netip.Prefix, now time.Time) {
	before := s.own
	s.own = slices.Clone(own)
	s.onLink.expire(s.own, now)
	for _, e := range s.prefixes {
		if s.selection().owns(e) && !slices.ContainsFunc(before, e.Prefix.Overlaps) {
			s.ignored.note(Ignored{Reason: OwnPrefix, Prefix: e.Prefix, Router: e.Router}, now)
		}
	}
}

// attach begins a new attachment: the link has got carrier, perhaps that of
// another network. What was heard before is stale: it is used until the first
// Router Advertisement of a default router, or five seconds have passed
// without one, and is forgotten then unless the advertisement confirms it.
//
// An advertisement that comes from the same router as one before, with the
// same prefix for addresses, shows that the network is the same. Then only
// what this router no longer says is forgotten at once, and what others said
// when the five seconds are over, unless they say it again. Until then it
// ranks after what this router says: the report of the new carrier may come
// after the first advertisement, which then looks like one of before.
func (s *state) attach(now time.Time) {
	if s.link.identity == recognized {
		// A router has been heard since, and nobody has confirmed these.
		s.prefixes.drop(func(e entry) bool { return e.stale })
		s.resolvers.drop(func(r resolver) bool { return r.stale })
	}
	present, kept := s.onLink.split(s.own)
	s.link, s.onLink = s.link.reattached(present, now), kept
	s.age()
	s.choice.limits = newFlapLimits() // it is not the network that flaps
	s.renewal = renewal{}
}

// settle judges what is stale by ra, which is of a default router and whose
// content has been taken in, or by the lack of one if it is nil.
func (s *state) settle(ra *RouterAdvertisement) {
	over, newNetwork := s.link.settle(ra)
	s.prefixes.drop(func(e entry) bool {
		from := e.Router
		if e.Origin == DNS {
			from = netip.Addr{} // even if the resolver is this router
		}
		return e.stale && over(from)
	})
	s.resolvers.drop(func(r resolver) bool { return r.stale && over(r.Router) })
	for i := range s.prefixes {
		// Resolvers are asked again soon, whatever routers say.
		s.prefixes[i].stale = s.prefixes[i].stale && s.prefixes[i].Origin == RA
	}
	if !newNetwork {
		return
	}
	s.doubts, s.inquiry.besides = nil, false
	s.routers.forget(s.link.since)
	if ra == nil || ra.MTU == 0 {
		s.mtu = 0
	}
}

// answered takes in the outcome of a round of DNS questions that was asked
// for w over the interface ifindex.
func (s *state) answered(o outcome, w want, ifindex int, now time.Time) {
	for _, ig := range o.ignored {
		s.ignored.note(ig, now)
	}
	if !s.inquiry.answered(o, w) {
		return
	}
	switch o.kind {
	case found:
		s.prefixes.drop(func(e entry) bool {
			return e.stale && e.Origin == RA || e.Origin == DNS && !slices.Contains(o.prefixes, e.Prefix)
		})
		for i := range s.prefixes {
			if s.prefixes[i].Origin == DNS {
				s.prefixes[i].Router = o.server
			}
		}
		for _, p := range o.prefixes {
			s.observe(Observation{Prefix: p, Origin: DNS, Router: o.server, Interface: ifindex,
				Expires: now.Add(o.ttl + graceTTL)}, nil, now)
		}
	case negativeAnswer:
		s.prefixes.drop(func(e entry) bool {
			return e.Origin == DNS && (o.all || slices.Contains(o.no, e.Router))
		})
	}
}

// update forgets what has ended, selects again, and asks routers and DNS where
// that is due. It reports whether to tell the owner, and returns when to call
// it again without an event; zero: never.
func (s *state) update(now time.Time) (tell bool, at time.Time) {
	s.renewal.expire(s.selection(), now)
	s.expire(now)
	if ended(s.link.confirm, now) {
		s.settle(nil)
	}

	before := s.choice.current.Prefix
	changed, held := s.choice.adopt(s.selection(), now)
	if held.Prefix.IsValid() {
		s.ignored.note(Ignored{Reason: Flapping, Prefix: held.Prefix, Router: held.Router}, now)
	}
	if changed {
		s.adoptions.note(s.choice.current, before)
		s.renewal.adopted(s.choice.current)
	}
	if s.renewal.ask(s.selection(), now) {
		s.solicit()
	}
	s.inquire(now)
	tell = s.news.announce(digest(s, now), changed, now) || changed

	at = earlier(s.tables.next(now), s.renewal.due(s.selection()))
	for _, other := range []time.Time{s.link.confirm, s.news.at, s.choice.next()} {
		at = earlier(at, other)
	}
	return tell, at
}

// inquire decides whether DNS is to be asked, and drops what it said when a
// router has taken over.
func (s *state) inquire(now time.Time) {
	sel := s.selection()
	s.link.carries(sel.carried(), now)
	if !s.inquiry.enabled {
		return
	}
	trusted := !s.inquiry.besides && sel.trusted()
	if trusted && s.choice.current.Origin == RA {
		s.prefixes.dropDNS()
		s.choice.candidates = slices.DeleteFunc(s.choice.candidates, func(o Observation) bool { return o.Origin == DNS })
	}
	s.inquiry.decide(s.link, trusted, s.advertised())
}

// question solicits the routers because what was just heard is doubtful.
func (s *state) question(now time.Time) {
	if s.renewal.question(now) {
		s.solicit()
	}
}
