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
	stale bool // heard before the present attachment
}

// hearResolver takes in a DNS server that a router advertises.
func (t *Tracker) hearResolver(r Resolver, now time.Time) {
	if cannotAsk(r.Addr) != "" {
		return
	}
	its := 0
	i := slices.IndexFunc(t.resolvers, func(o resolver) bool {
		if o.Router == r.Router {
			its++
		}
		return o.Addr == r.Addr && o.Router == r.Router
	})
	switch {
	case r.Withdrawn && i >= 0:
		t.resolvers = slices.Delete(t.resolvers, i, i+1)
	case r.Withdrawn:
	case i >= 0:
		t.resolvers[i] = resolver{Resolver: r}
	case len(t.resolvers) >= maxResolvers || its >= maxResolversPerRouter:
		t.ignored.note(Ignored{Reason: TooMany, Router: r.Router}, now)
	default:
		t.resolvers = append(t.resolvers, resolver{Resolver: r})
	}
}

// advertised returns the resolvers that routers of this attachment advertise.
func (t *Tracker) advertised() []netip.Addr {
	var all []netip.Addr
	for _, r := range t.resolvers {
		if !r.stale && !slices.Contains(all, r.Addr) {
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
