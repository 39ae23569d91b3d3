package pref64

import (
	"net/netip"
	"slices"
	"time"
)

const (
	maxResolvers          = 16 // advertised ones that are remembered
	maxResolversPerRouter = 4
)

// resolvers is the table of advertised DNS servers, in the order of arrival.
type resolvers []resolver

type resolver struct {
	Resolver
	byRouter bool // Router was a default router when it last advertised the server
	stale    bool // heard before the present attachment
}

// hear enters a DNS server that a router advertises, and reports whether there
// was room for it.
func (rs *resolvers) hear(r Resolver, byRouter bool, judge judge) bool {
	if cannotAsk(r.Addr) != "" {
		return true
	}
	i := slices.IndexFunc(*rs, func(o resolver) bool { return o.Addr == r.Addr && o.Router == r.Router })
	heard := resolver{Resolver: r, byRouter: byRouter}
	switch {
	case r.Withdrawn && i >= 0:
		*rs = slices.Delete(*rs, i, i+1)
	case r.Withdrawn:
	case i >= 0:
		(*rs)[i] = heard
	default:
		evict, ok := admit(len(*rs), maxResolvers, maxResolversPerRouter,
			func(i int) netip.Addr { return (*rs)[i].Router }, r.Router, judge)
		switch {
		case !ok:
			return false
		case evict >= 0:
			*rs = slices.Delete(*rs, evict, evict+1)
		}
		*rs = append(*rs, heard)
	}
	return true
}

// drop removes the servers for which gone is true.
func (rs *resolvers) drop(gone func(resolver) bool) { *rs = slices.DeleteFunc(*rs, gone) }

// next returns when the next lifetime ends; zero: never.
func (rs resolvers) next() (at time.Time) {
	for _, r := range rs {
		at = earlier(at, r.Expires)
	}
	return at
}

// genuine reports whether a default router advertises r. Any station can be one for
// a second.
func (r resolver) genuine(known *routers) bool {
	return known.isDefault(r.Router) || r.byRouter && !known.any()
}

// advertised returns the servers to ask: those that default routers of this
// attachment advertise, or, if there are none, those of other neighbours.
func (rs resolvers) advertised(known *routers) (servers []netip.Addr, ofRouters bool) {
	var byRouters, byNeighbours []netip.Addr
	for _, r := range rs {
		all := &byNeighbours
		if r.genuine(known) {
			all = &byRouters
		}
		if !r.stale && !slices.Contains(*all, r.Addr) {
			*all = append(*all, r.Addr)
		}
	}
	if len(byRouters) > 0 {
		return byRouters, true
	}
	return byNeighbours, false
}

// order returns the servers to ask. own are those of the link that are known by other
// means than router advertisements. Those of default routers come first, then own. If
// no default router advertises any, own comes first, then those of other neighbours.
// A network manager may have configured forged ones, so own is taken without those that
// only neighbours advertise. One place is left to own: any station can call itself a router.
func (rs resolvers) order(own []netip.Addr, known *routers) []netip.Addr {
	advertised, byRouters := rs.advertised(known)
	own = slices.DeleteFunc(slices.Clone(own), func(s netip.Addr) bool {
		s = s.WithZone("")
		return slices.Contains(advertised, s) ||
			byRouters && slices.ContainsFunc(rs, func(r resolver) bool { return r.Addr == s })
	})
	if !byRouters {
		return slices.Concat(own, advertised)
	}
	if others, _ := choose(own); len(others) > 0 {
		advertised = advertised[:min(len(advertised), maxServers-1)]
	}
	return slices.Concat(advertised, own)
}

// cannotAsk says why a resolver is not asked; empty: it is. Only a resolver
// that is reached by IPv6 over the uplink knows the uplink's network.
func cannotAsk(a netip.Addr) string {
	a = a.Unmap()
	switch {
	case a.IsLoopback():
		return "is on this host and may forward to any network"
	case a.Is4():
		return "is an IPv4 address"
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast():
		return "is not a unicast address"
	}
	return ""
}
