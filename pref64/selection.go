package pref64

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// selection orders the usable prefixes. It is a pure function of the tables
// and of the prefix in use, which is kept as long as it is valid.
type selection struct {
	*tables
	inUse     Observation // its Prefix is invalid if none is in use
	since     time.Time   // when inUse was adopted
	awaitsDNS bool        // DNS has not answered yet, so that a mere neighbour is not believed
}

// class orders the sources of a prefix, the best first.
type class int

const (
	byConfiguration class = iota
	byAdvertisement
	byDNS
	replaced // its router seems to have replaced it, or is no default router any more
	staleAdvertisement
	staleDNS
	byNeighbour
	staleNeighbour
)

func (s selection) class(e entry) class {
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
	case e.mention.superseded || s.retired(e):
		return replaced
	case s.late(e):
		return byDNS
	}
	return byAdvertisement
}

// retired reports whether the router of e is no default router any more while
// another one is. Any station can be one for a second, and advertise a prefix for 18
// hours.
func (s selection) retired(e entry) bool {
	return !e.Remembered && s.routers.any() && !s.routers.isDefault(e.Router)
}

// late reports whether the router of e has appeared while a prefix of DNS is in use,
// which it does not replace on a network that has other routers.
func (s selection) late(e entry) bool {
	return s.inUse.Origin == DNS && s.routers.newcomer(e.Router, s.since)
}

// ranked returns the usable prefixes, each once, best first: those that only a
// neighbour advertises last, then by doubt, if doubts count, then by class,
// then keep, then as the host prefers their routers, then in the order of
// arrival.
func (s selection) ranked(keep netip.Prefix, doubts bool) []Observation {
	until := func(p netip.Prefix) time.Time {
		if !doubts {
			return time.Time{}
		}
		return s.doubts.until(p)
	}
	var usable []entry
	for _, e := range s.prefixes {
		if s.usable(e) && !(s.class(e) >= byNeighbour && s.awaitsDNS) {
			e.Doubted = !until(e.Prefix).IsZero()
			e.Neighbour = s.class(e) >= byNeighbour
			usable = append(usable, e)
		}
	}
	slices.SortStableFunc(usable, func(a, b entry) int {
		x, y := s.class(a), s.class(b)
		byRouters := 0
		if a.Origin == RA && b.Origin == RA {
			byRouters = s.routers.compare(a.Router, b.Router)
		}
		return cmp.Or(
			falseFirst(x >= byNeighbour, y >= byNeighbour),
			until(a.Prefix).Compare(until(b.Prefix)), // zero is before all
			cmp.Compare(x, y),
			-falseFirst(a.Prefix == keep, b.Prefix == keep),
			-falseFirst(s.isInUse(a), s.isInUse(b)),
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

// isInUse reports whether e is the prefix in use, from the router that is followed.
func (s selection) isInUse(e entry) bool {
	return e.Prefix == s.inUse.Prefix && e.Router == s.inUse.Router
}

func (s selection) usable(e entry) bool { return !e.inRA && !s.owns(e) }

// owns reports whether the prefix of e overlaps one of the host's own that
// counts against it.
func (s selection) owns(e entry) bool {
	return slices.ContainsFunc(s.own, func(own netip.Prefix) bool {
		return own.Overlaps(e.Prefix) && !s.excused(own, e)
	})
}

// excused reports whether own, a prefix of the host, does not count against e:
// the host has formed an address in it only because of routers that rank below
// the router of e. The kernel believes any station on the link.
func (s selection) excused(own netip.Prefix, e entry) bool {
	said := false
	for _, o := range s.onLink {
		if o.prefix != own {
			continue
		}
		said = true
		byDefault := o.byRouter || s.routers.isDefault(o.router)
		inUse := e.Prefix == s.inUse.Prefix && o.since.After(s.since)
		if o.router == e.Router || byDefault && !e.byRouter && !inUse {
			return false
		}
	}
	return said
}

// excuses returns the prefixes of the host that overlap one of candidates and
// do not count against it.
func (t *tables) excuses(candidates []Observation) (all []netip.Prefix) {
	for _, o := range candidates {
		for _, own := range t.own {
			if own.Overlaps(o.Prefix) && !slices.Contains(all, own) {
				all = append(all, own)
			}
		}
	}
	return all
}

// carried reports whether default routers of this attachment advertise a
// usable PREF64.
func (s selection) carried() bool { return slices.ContainsFunc(s.prefixes, s.advertisedByRouter) }

// carriedBy reports whether they advertise one that is so, and is not superseded.
func (s selection) carriedBy(is func(selection, entry) bool) bool {
	return slices.ContainsFunc(s.prefixes, func(e entry) bool {
		return s.advertisedByRouter(e) && !e.mention.superseded && is(s, e)
	})
}

// trusted reports whether they advertise one that ranks before DNS and is not in
// doubt.
func (s selection) trusted() bool {
	return slices.ContainsFunc(s.prefixes, func(e entry) bool {
		return s.advertisedByRouter(e) && s.class(e) == byAdvertisement && s.doubts.until(e.Prefix).IsZero()
	})
}

func (s selection) advertisedByRouter(e entry) bool {
	return e.Origin == RA && e.byRouter && !e.stale && s.usable(e)
}

// falseFirst orders false before true.
func falseFirst(a, b bool) int {
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
