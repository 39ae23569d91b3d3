package pref64

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// Each change of PREF64 breaks every flow through the CLAT and moves its
	// address. RFC 8781 allows lifetimes down to 8 s and withdrawal at any
	// time, so a link, by accident or malice, could make the CLAT move
	// forever. Advertised prefixes may therefore be adopted flapBurst times at
	// once and then once every flapInterval. Giving up a prefix that has
	// ended never waits.
	flapBurst    = 8
	flapInterval = 30 * time.Second

	// A prefix is proven when it has been in use for provenAfter without a
	// break. Going back to one is limited separately, and more loosely: otherwise
	// any station that forges advertisements could use up the limit and keep the
	// host from the network's own prefix.
	provenAfter    = flapInterval
	maxProven      = 4
	returnInterval = time.Second
)

// flapLimits paces changes of the prefix in use. What one station advertises
// under many addresses counts together, but neither against the default router
// that was heard first nor against proven prefixes.
type flapLimits struct {
	eldest  pace // for prefixes of the default router that was heard first
	others  pace
	returns pace           // for proven prefixes
	proven  []netip.Prefix // the latest last, at most maxProven
}

func newFlapLimits() flapLimits {
	limit := pace{burst: flapBurst, interval: flapInterval}
	return flapLimits{eldest: limit, others: limit, returns: pace{burst: flapBurst, interval: returnInterval}}
}

// of returns the limit that adopting o counts against.
func (l *flapLimits) of(o Observation, rs *routers) *pace {
	switch {
	case slices.Contains(l.proven, o.Prefix):
		return &l.returns
	case rs.index(o.Router) == 0:
		return &l.eldest
	}
	return &l.others
}

// prove notes that p has been in use for provenAfter.
func (l *flapLimits) prove(p netip.Prefix) {
	l.proven = append(slices.DeleteFunc(l.proven, func(q netip.Prefix) bool { return q == p }), p)
	l.proven = l.proven[max(0, len(l.proven)-maxProven):]
}

// choice is the prefix in use and what could replace it.
type choice struct {
	current    Observation   // its Prefix is invalid if none is in use
	since      time.Time     // when current.Prefix was adopted
	home       netip.Prefix  // would be in use if nothing were in doubt
	held       netip.Prefix  // waits for its turn; invalid if nothing does
	heldUntil  time.Time     // when its turn is
	candidates []Observation // usable, each prefix once, current first; none if none is in use
	limits     flapLimits
}

// adopt follows the order of s. changed says that another prefix, or none, is
// in use now; held is the Observation that begins to wait because changes come
// too fast, if any.
func (c *choice) adopt(s selection, now time.Time) (changed bool, held Observation) {
	c.home = first(s.ranked(c.home, false)).Prefix
	keep := c.home
	if !s.doubts.until(keep).IsZero() {
		keep = c.current.Prefix
	}
	if c.current.Prefix.IsValid() && c.current.Origin != Static && now.Sub(c.since) >= provenAfter {
		c.limits.prove(c.current.Prefix)
	}
	order := s.ranked(keep, true)
	next, waiting := c.mayAdopt(order, &s.routers, now)
	if waiting.Prefix != c.held {
		held = waiting
	}
	if waiting.Prefix.IsValid() {
		c.heldUntil = c.limits.of(waiting, &s.routers).ready()
	}
	changed = next.Prefix != c.current.Prefix
	if changed {
		c.since = now
	}
	c.current, c.held, c.candidates = next, waiting.Prefix, nil
	if next.Prefix.IsValid() {
		c.candidates = append(c.candidates, next)
		for _, o := range order {
			if o.Prefix != next.Prefix {
				c.candidates = append(c.candidates, o)
			}
		}
	}
	return changed, held
}

// mayAdopt returns the first of order if the limits allow to adopt it at now.
// Otherwise waiting is that, and next is the prefix in use or, if it has ended, the
// first that may be adopted.
func (c *choice) mayAdopt(order []Observation, rs *routers, now time.Time) (next, waiting Observation) {
	for i, o := range order {
		if o.Prefix == c.current.Prefix || o.Origin == Static {
			return o, waiting
		}
		if limit := c.limits.of(o, rs); !now.Before(limit.ready()) {
			limit.take(now)
			return o, waiting
		}
		if i == 0 {
			waiting = o
			if current := find(order, c.current.Prefix); current.Prefix.IsValid() {
				return current, waiting
			}
		}
	}
	return Observation{}, waiting
}

// next returns when a prefix that is held may be adopted; zero: none is held.
func (c *choice) next() time.Time {
	if !c.held.IsValid() {
		return time.Time{}
	}
	return c.heldUntil
}
