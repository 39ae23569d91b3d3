package pref64

import (
	"net/netip"
	"testing"
	"time"
)

// TestAttachedLate: the first advertisement of a new network is heard before
// anybody says that it is a new one, and looks like one of before.
func TestAttachedLate(t *testing.T) {
	scripts{
		{"what the old network said is not preferred", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.sleep(time.Minute)
			l.hear(router2, pio2, prefixB)
			l.Attached()
			l.uses(prefixA, RA, router1)
			l.hear(router2, pio2, prefixB)
			l.uses(prefixB, RA, router2)
			l.sleep(confirmWithin)
			l.send(RouterAdvertisement{Router: router2, RouterLifetime: time.Hour, PREF64: []PREF64{{prefixB, 0}}})
			l.usesNone()
		}},
		{"and forgotten when the link is attached once more", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.hear(router2, pio2, prefixB)
			l.Attached()
			l.hear(router2, pio2, prefixB)
			l.Attached()
			l.hear(router2, pio2)
			l.usesNone()
		}},
		{"another router of the same network is heard again", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.hear(router2, pio1)
			l.Attached()
			l.hear(router2, pio1)
			l.uses(prefixA, RA, router1)
			l.hear(router1, pio1, prefixA)
			l.sleep(time.Minute)
			l.uses(prefixA, RA, router1)
		}},
		{"and one that is not", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, netip.Prefix{}, prefixA)
			l.hear(router2, pio2)
			l.Attached()
			l.hear(router2, pio2)
			l.uses(prefixA, RA, router1)
			l.sleep(confirmWithin)
			l.usesNone()
		}},
	}.run(t)
}

// TestHeardRA: what is no default router does not say how hosts get their
// addresses. Border routers of home automation speak up in most homes.
func TestHeardRA(t *testing.T) {
	scripts{{"not the default router first", func(t *testing.T) {
		l := newLookout(t, nil)
		l.send(RouterAdvertisement{Router: router2})
		if s := l.Snapshot(); s.HeardRA {
			t.Errorf("heard, with %v for addresses", s.OnLink)
		}
		l.hear(router1, pio1)
		if s := l.Snapshot(); !s.HeardRA || len(s.OnLink) != 1 {
			t.Errorf("heard: %v, with %v for addresses", s.HeardRA, s.OnLink)
		}
		l.Attached()
		l.send(RouterAdvertisement{Router: router2})
		if l.Snapshot().HeardRA {
			t.Error("heard before it was attached")
		}
	}}}.run(t)
}

// TestAttachedResolverIsRouter: the router of a home network is its resolver
// too. That it advertises no PREF64 is no word about what it said by DNS.
func TestAttachedResolverIsRouter(t *testing.T) {
	scripts{{"the same network again", func(t *testing.T) {
		l := newLookout(t, nil)
		l.dns.answers(router1, yes)
		ra := RouterAdvertisement{
			Router: router1, RouterLifetime: time.Hour, RDNSS: []RDNSS{{[]netip.Addr{router1}, time.Hour}},
			Prefixes: []PrefixInfo{{Prefix: pio1, Autonomous: true, Valid: time.Hour, Preferred: time.Hour}},
		}
		l.send(ra)
		l.sleep(time.Second)
		l.uses(prefixB, DNS, router1)
		l.sleep(time.Minute)
		l.Attached()
		l.uses(prefixB, DNS, router1)
		l.send(ra)
		l.uses(prefixB, DNS, router1)
	}}}.run(t)
}
