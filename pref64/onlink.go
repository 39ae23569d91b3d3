package pref64

import (
	"iter"
	"net/netip"
	"slices"
	"time"
)

const (
	maxOnLink          = 32 // prefixes for addresses that are remembered
	maxOnLinkPerRouter = 8
)

// OnLink is a prefix in which hosts of the link may form addresses, as one
// router advertises it (RFC 4861 section 4.6.2, autonomous flag).
type OnLink struct {
	Prefix    netip.Prefix
	Router    netip.Addr // the router that advertises it, without zone
	Default   bool       // Router is a default router
	Preferred bool       // new addresses are to be formed in it
}

// onLinks is the table of the prefixes from which hosts of the link form
// addresses (SLAAC), with an entry for each router that advertises one.
type onLinks []onLink

type onLink struct {
	prefix    netip.Prefix
	router    netip.Addr
	byRouter  bool      // router was a default router when it last advertised the prefix
	since     time.Time // first heard
	expires   time.Time // end of the valid lifetime; zero: never
	preferred time.Time // end of the preferred lifetime; zero: never
	mention   mention

	// over says that the prefix has expired or was withdrawn. It is remembered
	// as long as the host has an address of it (see selection.owns).
	over bool
	// former says that it was advertised before the present attachment. The kernel
	// keeps its address.
	former bool
}

// forAddresses reports whether hosts may form addresses from p (RFC 4862
// section 5.5.3).
func forAddresses(p PrefixInfo) bool {
	return p.Autonomous && p.Prefix.Bits() == 64 && p.Valid > 0 && p.Preferred <= p.Valid && !isLinkLocal(p.Prefix.Addr())
}

// hear enters one Prefix Information option of router, and reports whether
// there was room for it. Only the router that advertises a prefix can withdraw
// it. Entries of own, the host's prefixes, are not evicted.
func (ls *onLinks) hear(p PrefixInfo, router netip.Addr, byRouter bool, own []netip.Prefix, judge judge, now time.Time) bool {
	if !p.Autonomous {
		return true
	}
	i := slices.IndexFunc(*ls, func(o onLink) bool { return o.prefix == p.Prefix && o.router == router })
	switch {
	case !forAddresses(p):
		if i >= 0 && p.Valid == 0 {
			(*ls)[i].over = true
		}
		return true
	case i < 0:
		if i = ls.place(router, own, judge); i < 0 {
			return false
		}
		(*ls)[i] = onLink{prefix: p.Prefix, router: router, since: now}
	case (*ls)[i].former:
		(*ls)[i] = onLink{prefix: p.Prefix, router: router, since: (*ls)[i].since}
	}
	o := &(*ls)[i]
	o.over, o.byRouter = false, byRouter
	o.expires, o.preferred = end(now, p.Valid), end(now, p.Preferred)
	return true
}

// place makes room for a prefix of router and returns its index, or -1.
func (ls *onLinks) place(router netip.Addr, own []netip.Prefix, judge judge) int {
	evict, ok := admit(len(*ls), maxOnLink, maxOnLinkPerRouter, func(i int) netip.Addr {
		if slices.Contains(own, (*ls)[i].prefix) {
			return netip.Addr{}
		}
		return (*ls)[i].router
	}, router, judge)
	switch {
	case !ok:
		return -1
	case evict >= 0:
		*ls = slices.Delete(*ls, evict, evict+1)
	}
	*ls = append(*ls, onLink{})
	return len(*ls) - 1
}

// split returns what has been advertised during the present attachment, and what is to
// be remembered of it during the next one: the prefixes of own.
func (ls onLinks) split(own []netip.Prefix) (present, kept onLinks) {
	for _, o := range ls {
		if !o.former {
			present = append(present, o)
		}
		if slices.Contains(own, o.prefix) {
			o.over, o.former = true, true
			kept = append(kept, o)
		}
	}
	return present, kept
}

// of returns an iterator over the prefixes that router has advertised during the
// present attachment.
func (ls onLinks) of(router netip.Addr) iter.Seq[*onLink] {
	return func(yield func(*onLink) bool) {
		for i := range ls {
			if ls[i].router == router && !ls[i].former && !yield(&ls[i]) {
				return
			}
		}
	}
}

// expire removes what has ended, except prefixes of own.
func (ls *onLinks) expire(own []netip.Prefix, now time.Time) {
	for i := range *ls {
		o := &(*ls)[i]
		o.over = o.over || ended(o.expires, now)
	}
	*ls = slices.DeleteFunc(*ls, func(o onLink) bool { return o.over && !slices.Contains(own, o.prefix) })
}

// next returns when the next lifetime ends after now; zero: never.
func (ls onLinks) next(now time.Time) (at time.Time) {
	for _, o := range ls {
		if !o.over {
			at = earlier(at, o.expires)
		}
		if !o.preferred.IsZero() && o.preferred.After(now) {
			at = earlier(at, o.preferred)
		}
	}
	return at
}

// valid returns the prefixes for addresses that are valid at now.
func (ls onLinks) valid(rs *routers, now time.Time) (all []OnLink) {
	for _, o := range ls {
		if o.over || ended(o.expires, now) {
			continue
		}
		all = append(all, OnLink{
			Prefix: o.prefix, Router: o.router, Default: o.byRouter || rs.isDefault(o.router),
			Preferred: !o.mention.superseded && !ended(o.preferred, now),
		})
	}
	return all
}
