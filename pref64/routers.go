package pref64

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

const (
	// maxRouters bounds the default routers that are remembered. The kernel
	// keeps more, but a link with more than a few is under attack.
	maxRouters = 32

	// leaveGrace is how long a router of whom an advertisement says that it is
	// a default router no longer counts as one: it is asked, and what it then
	// says itself is the truth. Anybody can forge the farewell of another
	// router. An answer takes up to 4 s until it is asked, and 3.5 s more
	// (RFC 4861 section 10, RTR_SOLICITATION_INTERVAL, MIN_DELAY_BETWEEN_RAS
	// and MAX_RA_DELAY_TIME).
	leaveGrace = 10 * time.Second
)

// Preference is the preference of a default router (RFC 4191 section 2.1).
// Higher values are preferred.
type Preference int8

const (
	Low    Preference = -1
	Medium Preference = 0
	High   Preference = 1
)

// Gateway is a next hop of a default route of the host.
type Gateway struct {
	Addr   netip.Addr // link-local, without zone
	Metric int        // of the route
}

// routers knows who is a default router of the link: who says so in its
// advertisements, and whom the host's default routes name. The zero value
// knows nobody.
type routers struct {
	heard    []router  // in the order of their first advertisement
	gateways []Gateway // lowest metric first
}

// router is one that has advertised itself as a default router.
type router struct {
	addr       netip.Addr
	since      time.Time // of its first advertisement
	last       time.Time // of its latest one
	until      time.Time // end of its router lifetime
	preference Preference
}

// hear takes in who sent ra, and reports whether a default router says farewell, or
// that it will in a moment, which should be asked of it.
func (rs *routers) hear(ra *RouterAdvertisement, now time.Time) (farewell bool) {
	i, end := rs.index(ra.Router), now.Add(ra.RouterLifetime)
	switch {
	case ra.RouterLifetime == 0 && i < 0:
		return false
	case i >= 0 && ra.RouterLifetime < leaveGrace && end.Before(rs.heard[i].until):
		rs.heard[i].until = earlier(rs.heard[i].until, now.Add(leaveGrace))
		return true
	case i < 0:
		if len(rs.heard) == maxRouters && !rs.makeRoom(ra.Router) {
			return false
		}
		i = len(rs.heard)
		rs.heard = append(rs.heard, router{addr: ra.Router, since: now})
	}
	rs.heard[i].last, rs.heard[i].until = now, end
	rs.heard[i].preference = ra.Preference
	return false
}

// makeRoom forgets the youngest router that the host has no route by, if the
// newcomer is one that it has a route by.
func (rs *routers) makeRoom(newcomer netip.Addr) bool {
	if !rs.isGateway(newcomer) {
		return false
	}
	for i := len(rs.heard) - 1; i >= 0; i-- {
		if !rs.isGateway(rs.heard[i].addr) {
			rs.heard = slices.Delete(rs.heard, i, i+1)
			return true
		}
	}
	return false
}

func (rs *routers) expire(now time.Time) {
	rs.heard = slices.DeleteFunc(rs.heard, func(r router) bool { return !now.Before(r.until) })
}

// forget forgets those of whom nothing has been heard since t.
func (rs *routers) forget(t time.Time) {
	rs.heard = slices.DeleteFunc(rs.heard, func(r router) bool { return r.last.Before(t) })
}

// next returns when expire has something to do; zero: never.
func (rs *routers) next() (at time.Time) {
	for _, r := range rs.heard {
		at = earlier(at, r.until)
	}
	return at
}

// set replaces the next hops of the host's default routes over the link.
func (rs *routers) set(gs []Gateway) {
	rs.gateways = slices.Clone(gs)
	slices.SortStableFunc(rs.gateways, func(a, b Gateway) int { return cmp.Compare(a.Metric, b.Metric) })
}

// isDefault reports whether a is a default router of the link.
func (rs *routers) isDefault(a netip.Addr) bool { return rs.isGateway(a) || rs.index(a) >= 0 }

func (rs *routers) isGateway(a netip.Addr) bool {
	return slices.ContainsFunc(rs.gateways, func(g Gateway) bool { return g.Addr == a })
}

func (rs *routers) index(a netip.Addr) int {
	return slices.IndexFunc(rs.heard, func(r router) bool { return r.addr == a })
}

// any reports whether there is a default router at all.
func (rs *routers) any() bool { return len(rs.heard)+len(rs.gateways) > 0 }

// newcomer reports whether a was first heard after t, or is no longer known as a
// default router by its advertisements, and a router from before t is still there.
// What any station has advertised together with a short router lifetime would
// otherwise count for more once that has ended.
func (rs *routers) newcomer(a netip.Addr, t time.Time) bool {
	if i := rs.index(a); i >= 0 && !rs.heard[i].since.After(t) {
		return false
	}
	return slices.ContainsFunc(rs.heard, func(r router) bool { return !r.since.After(t) })
}

// compare orders routers the way the host chooses its next hop: first the
// metric of its own routes, then the preference of RFC 4191, then who was
// heard first. One that is no default router comes last.
func (rs *routers) compare(a, b netip.Addr) int {
	key := func(r netip.Addr) (metric, preference, age int) {
		metric, preference, age = maxMetric, 0, maxMetric
		if i := slices.IndexFunc(rs.gateways, func(g Gateway) bool { return g.Addr == r }); i >= 0 {
			metric = rs.gateways[i].Metric
		}
		if i := rs.index(r); i >= 0 {
			preference, age = -int(rs.heard[i].preference), i
		}
		return metric, preference, age
	}
	am, ap, aa := key(a)
	bm, bp, ba := key(b)
	return cmp.Or(cmp.Compare(am, bm), cmp.Compare(ap, bp), cmp.Compare(aa, ba))
}

// maxMetric is worse than any metric of a route.
const maxMetric = 1<<31 - 1
