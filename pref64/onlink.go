package pref64

import (
	"net/netip"
	"slices"
	"time"
)

const (
	maxOnLink          = 32 // prefixes for addresses that are remembered
	maxOnLinkPerRouter = 8
)

// onLink is a prefix from which hosts of the link form addresses (SLAAC), as
// one router says.
type onLink struct {
	prefix    netip.Prefix
	router    netip.Addr // who advertises it
	byRouter  bool       // who was a default router when it last did
	since     time.Time  // first heard
	expires   time.Time  // end of the valid lifetime; zero: never
	preferred time.Time  // end of the preferred lifetime; zero: never
	mention   mention

	// over says that the prefix has expired or was withdrawn. It is remembered
	// as long as the host has an address of it (see Tracker.owns).
	over bool
}

// forAddresses reports whether hosts may form addresses from p (RFC 4862
// section 5.5.3).
func forAddresses(p PrefixInfo) bool {
	return p.Autonomous && p.Prefix.Bits() == 64 && p.Valid > 0 && p.Preferred <= p.Valid && !isLinkLocal(p.Prefix.Addr())
}

// hearPrefixes takes in the Prefix Information options of ra. Only the router
// that advertises a prefix can withdraw it.
func (t *Tracker) hearPrefixes(ra *RouterAdvertisement, now time.Time) {
	for _, p := range ra.Prefixes {
		if !p.Autonomous {
			continue
		}
		i := slices.IndexFunc(t.link.onLink, func(o onLink) bool { return o.prefix == p.Prefix && o.router == ra.Router })
		switch {
		case !forAddresses(p):
			if i >= 0 && p.Valid == 0 {
				t.link.onLink[i].over = true
			}
			continue
		case i < 0:
			if i = t.placeOnLink(ra.Router); i < 0 {
				t.ignored.note(Ignored{Reason: TooMany, Prefix: p.Prefix, Router: ra.Router}, now)
				continue
			}
			t.link.onLink[i] = onLink{prefix: p.Prefix, router: ra.Router, since: now}
		}
		o := &t.link.onLink[i]
		o.over = false
		o.byRouter = t.routers.isDefault(ra.Router)
		o.expires, o.preferred = end(now, p.Valid), end(now, p.Preferred)
	}
	t.forgetOnLink(now)
}

// placeOnLink makes room for a prefix of router and returns its index, or -1.
func (t *Tracker) placeOnLink(router netip.Addr) int {
	all := t.link.onLink
	evict, ok := admit(len(all), maxOnLink, maxOnLinkPerRouter, func(i int) netip.Addr {
		if t.isOwn(all[i].prefix) {
			return netip.Addr{}
		}
		return all[i].router
	}, router, t.judge)
	switch {
	case !ok:
		return -1
	case evict >= 0:
		t.link.onLink = slices.Delete(t.link.onLink, evict, evict+1)
	}
	t.link.onLink = append(t.link.onLink, onLink{})
	return len(t.link.onLink) - 1
}

// forgetOnLink forgets what is over and of no use.
func (t *Tracker) forgetOnLink(now time.Time) {
	for i := range t.link.onLink {
		o := &t.link.onLink[i]
		o.over = o.over || !o.expires.IsZero() && !now.Before(o.expires)
	}
	t.link.onLink = slices.DeleteFunc(t.link.onLink, func(o onLink) bool { return o.over && !t.isOwn(o.prefix) })
}

func (t *Tracker) isOwn(p netip.Prefix) bool { return slices.Contains(t.own, p) }

// OnLink is a prefix in which hosts of the link may form addresses, as one
// router says (RFC 4861 section 4.6.2, autonomous).
type OnLink struct {
	Prefix    netip.Prefix
	Router    netip.Addr // who says so, without zone
	Default   bool       // who is a default router
	Preferred bool       // new addresses are to be formed in it
}

// slaac returns the prefixes for addresses that are valid now.
func (t *Tracker) slaac(now time.Time) (all []OnLink) {
	for _, o := range t.link.onLink {
		if o.over || !o.expires.IsZero() && !now.Before(o.expires) {
			continue
		}
		all = append(all, OnLink{
			Prefix: o.prefix, Router: o.router, Default: o.byRouter || t.routers.isDefault(o.router),
			Preferred: !o.mention.superseded && (o.preferred.IsZero() || now.Before(o.preferred)),
		})
	}
	return all
}
