package pref64

import (
	"net/netip"
	"slices"
	"time"
)

// tables is what routers, DNS and the host itself have said about one uplink.
// Every table is bounded.
type tables struct {
	prefixes  prefixes
	onLink    onLinks
	resolvers resolvers
	routers   routers
	own       []netip.Prefix // of the host: on-link prefixes and addresses
	doubts    doubts
}

// judge returns what decides about the places of a router, or resolver, in a
// full table.
func (t *tables) judge(a netip.Addr) (class, age int) {
	i := t.routers.index(a)
	switch {
	case t.routers.isGateway(a):
		class = 0
	case i >= 0:
		class = 1
	case slices.ContainsFunc(t.prefixes, func(e entry) bool { return e.Origin == DNS && e.Router == a }):
		class = 2 // a resolver
	default:
		class = 3
	}
	if i < 0 {
		i = maxRouters
	}
	return class, i
}

// promote counts what router said before it was known as a default router as
// that of a default router.
func (t *tables) promote(router netip.Addr) {
	if !t.routers.isDefault(router) {
		return
	}
	for e := range t.prefixes.of(router) {
		e.byRouter = true
	}
	for o := range t.onLink.of(router) {
		o.byRouter = true
	}
}

// supersede marks all that router has advertised as superseded.
func (t *tables) supersede(router netip.Addr) {
	for e := range t.prefixes.of(router) {
		e.mention.superseded = true
	}
	for o := range t.onLink.of(router) {
		o.mention.superseded = true
	}
}

// age marks what the link has said as stale.
func (t *tables) age() {
	for i := range t.prefixes {
		t.prefixes[i].stale = t.prefixes[i].Origin != Static
	}
	for i := range t.resolvers {
		t.resolvers[i].stale = true
	}
}

// expire removes what has ended.
func (t *tables) expire(now time.Time) {
	t.routers.expire(now)
	t.onLink.expire(t.own, now)
	t.prefixes.drop(func(e entry) bool { return ended(e.Expires, now) })
	t.resolvers.drop(func(r resolver) bool { return ended(r.Expires, now) })
	t.doubts.expire(now)
}

// next returns when expire next has something to do; zero: never.
func (t *tables) next(now time.Time) (at time.Time) {
	for _, other := range []time.Time{t.prefixes.next(), t.resolvers.next(), t.onLink.next(now), t.routers.next(), t.doubts.next()} {
		at = earlier(at, other)
	}
	return at
}

// advertised returns the resolvers that routers advertise and that are to be asked.
func (t *tables) advertised() []netip.Addr {
	servers, _ := t.resolvers.advertised(&t.routers)
	return servers
}

// speakers returns the routers that advertise the prefix of o at present, the
// router of o first.
func (t *tables) speakers(o Observation) (all []netip.Addr) {
	if o.Origin != RA {
		return nil
	}
	all = []netip.Addr{o.Router}
	for _, e := range t.prefixes {
		if e.Prefix == o.Prefix && e.Origin == RA && !e.stale && e.byRouter != o.Neighbour && !e.mention.superseded && e.Router != o.Router {
			all = append(all, e.Router)
		}
	}
	return all
}
