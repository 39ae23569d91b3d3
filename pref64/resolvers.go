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

type resolver struct {
	Resolver
	byRouter bool // Router was a default router when it last said so
	stale    bool // heard before the present attachment
}

// hearResolver takes in a DNS server that a router advertises.
func (t *Tracker) hearResolver(r Resolver, now time.Time) {
	if cannotAsk(r.Addr) != "" {
		return
	}
	i := slices.IndexFunc(t.resolvers, func(o resolver) bool { return o.Addr == r.Addr && o.Router == r.Router })
	heard := resolver{Resolver: r, byRouter: t.routers.isDefault(r.Router)}
	switch {
	case r.Withdrawn && i >= 0:
		t.resolvers = slices.Delete(t.resolvers, i, i+1)
	case r.Withdrawn:
	case i >= 0:
		t.resolvers[i] = heard
	default:
		evict, ok := admit(len(t.resolvers), maxResolvers, maxResolversPerRouter,
			func(i int) netip.Addr { return t.resolvers[i].Router }, r.Router, t.judge)
		switch {
		case !ok:
			t.ignored.note(Ignored{Reason: TooMany, Router: r.Router}, now)
			return
		case evict >= 0:
			t.resolvers = slices.Delete(t.resolvers, evict, evict+1)
		}
		t.resolvers = append(t.resolvers, heard)
	}
}

// advertised returns the resolvers that default routers of this attachment
// advertise; those of other neighbours only if there are no others.
func (t *Tracker) advertised() []netip.Addr {
	var routers, neighbours []netip.Addr
	for _, r := range t.resolvers {
		all := &neighbours
		if r.byRouter || t.routers.isDefault(r.Router) {
			all = &routers
		}
		if !r.stale && !slices.Contains(*all, r.Addr) {
			*all = append(*all, r.Addr)
		}
	}
	if len(routers) > 0 {
		return routers
	}
	return neighbours
}

// onlyNeighbours returns the resolvers that neighbours advertise and no default
// router does, if a default router advertises any. A network manager may have
// believed them.
func (t *Tracker) onlyNeighbours() (all []netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	routers := t.advertised()
	if !slices.ContainsFunc(t.resolvers, func(r resolver) bool {
		return slices.Contains(routers, r.Addr) && (r.byRouter || t.routers.isDefault(r.Router))
	}) {
		return nil
	}
	for _, r := range t.resolvers {
		if !slices.Contains(routers, r.Addr) {
			all = append(all, r.Addr)
		}
	}
	return all
}

// cannotAsk says why a resolver is not asked; empty: it is. Only one that is
// reached by IPv6 over the uplink tells what the uplink's network is like.
func cannotAsk(a netip.Addr) string {
	a = a.Unmap()
	switch {
	case a.IsLoopback():
		return "is on this host and may ask anybody"
	case a.Is4():
		return "is an IPv4 address"
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast():
		return "is no host's address"
	}
	return ""
}
