package pref64

import (
	"net/netip"
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
)

// choice is the prefix in use and what could replace it.
type choice struct {
	current    Observation   // its Prefix is invalid if none is in use
	since      time.Time     // when current.Prefix was adopted
	home       netip.Prefix  // would be in use if nothing were in doubt
	held       netip.Prefix  // waits for its turn; invalid if nothing does
	candidates []Observation // usable, each prefix once, current first; none if none is in use
	changes    pace
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
	order := s.ranked(keep, true)
	next, waiting := first(order), netip.Prefix{}
	if next.Prefix != c.current.Prefix && next.Origin != Static {
		if now.Before(c.changes.ready()) {
			if waiting = next.Prefix; waiting != c.held {
				held = next
			}
			next = find(order, c.current.Prefix)
		} else {
			c.changes.take(now)
		}
	}
	changed = next.Prefix != c.current.Prefix
	if changed {
		c.since = now
	}
	c.current, c.held, c.candidates = next, waiting, nil
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

// next returns when a prefix that is held may be adopted; zero: none is held.
func (c *choice) next() time.Time {
	if !c.held.IsValid() {
		return time.Time{}
	}
	return c.changes.ready()
}
