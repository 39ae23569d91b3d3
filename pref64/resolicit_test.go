package pref64

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRenewAt(t *testing.T) {
	t0 := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for lifetime, want := range map[time.Duration][]time.Duration{
		8 * time.Second:     {4},
		16 * time.Second:    {8, 12},
		24 * time.Second:    {12, 16, 20},
		1800 * time.Second:  {1788, 1792, 1796},
		65528 * time.Second: {65516, 65520, 65524},
	} {
		var got []time.Duration
		for at := renewAt(t0, t0.Add(lifetime), time.Time{}); !at.IsZero(); at = renewAt(t0, t0.Add(lifetime), at) {
			got = append(got, at.Sub(t0)/time.Second)
		}
		if len(got) != len(want) {
			t.Errorf("%v: asked after %d, want %d", lifetime, got, want)
			continue
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%v: asked after %d, want %d", lifetime, got, want)
			}
		}
	}
	if at := renewAt(t0, time.Time{}, time.Time{}); !at.IsZero() {
		t.Errorf("for what never ends: %v", at)
	}
}

// TestRenew is a router that advertises a PREF64 for 16 s, and itself every ten
// minutes.
func TestRenew(t *testing.T) {
	short := RouterAdvertisement{Router: router1, RouterLifetime: 30 * time.Minute, PREF64: []PREF64{{prefixA, 16 * time.Second}}}
	t.Run("it answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.send(short)
			asked := 0
			for range 600 {
				l.sleep(time.Second)
				l.uses(prefixA, RA, router1)
				if l.routers.renewed() > asked {
					asked = l.routers.renewed()
					l.send(short)
				}
			}
			if asked < 70 || asked > 80 {
				t.Errorf("asked %d times in ten minutes", asked)
			}
			if got := l.Snapshot().Discovery; !strings.Contains(got, "with a lifetime shorter than its advertisement interval") {
				t.Errorf("says %q", got)
			}
		})
	})
	t.Run("it does not answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.send(short)
			l.sleep(16*time.Second - 1)
			if l.routers.renewed() != 2 {
				t.Errorf("asked %d times", l.routers.renewed())
			}
			l.uses(prefixA, RA, router1)
			l.sleep(time.Second)
			l.usesNone()
			l.says("fe80::1 advertised 2001:db8:a::/96 for 16s, did not repeat it in time and does not answer router solicitations; DNS is not asked (discovery.sources)")
			l.sleep(24 * time.Hour)
			if n := l.routers.renewed(); n < 20 || n > 50 {
				t.Errorf("asked %d times in a day", n)
			}
			l.send(short)
			l.uses(prefixA, RA, router1)
		})
	})
	t.Run("it has none any more", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.send(short)
			l.sleep(20 * time.Second)
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: 30 * time.Minute})
			l.says("router advertisements carry no PREF64; DNS is not asked (discovery.sources)")
			asked := l.routers.renewed()
			l.sleep(10 * time.Minute)
			if l.routers.renewed() != asked {
				t.Error("it is asked on")
			}
		})
	})
	t.Run("a normal network is not asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			for range 100 {
				l.hear(router1, pio1, prefixA)
				l.sleep(10 * time.Minute)
			}
			if l.routers.renewed() != 0 {
				t.Errorf("asked %d times", l.routers.renewed())
			}
		})
	})
}

// TestRenumbered is a network that changes its prefixes without a farewell.
func TestRenumbered(t *testing.T) {
	preferred := func(l *lookout) (all []string) {
		for _, o := range l.Snapshot().OnLink {
			if o.Preferred {
				all = append(all, o.Prefix.String())
			}
		}
		return all
	}
	wantPreferred := func(t *testing.T, l *lookout, want ...string) {
		t.Helper()
		if got := preferred(l); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("for addresses are %v, want %v", got, want)
		}
	}
	scripts{
		{"both at once", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.hear(router1, pio2, prefixB)
			l.uses(prefixB, RA, router1)
			wantPreferred(t, l, pio2.String())
			if l.routers.renewed() != 1 {
				t.Errorf("asked %d times", l.routers.renewed())
			}
		}},
		{"the prefix for addresses alone", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.hear(router1, pio2, prefixA)
			l.uses(prefixA, RA, router1)
			wantPreferred(t, l, pio2.String())
		}},
		{"PREF64 alone: confirmed once", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.hear(router1, pio1, prefixB)
			l.uses(prefixA, RA, router1)
			if l.routers.renewed() != 1 {
				t.Errorf("asked %d times", l.routers.renewed())
			}
			l.sleep(4 * time.Second)
			l.hear(router1, pio1, prefixB)
			l.uses(prefixB, RA, router1)
		}},
		{"another router's prefixes stay", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			for range 5 {
				l.hear(router2, pio2, prefixB)
				l.sleep(5 * time.Second)
			}
			l.uses(prefixA, RA, router1)
			wantPreferred(t, l, pio1.String(), pio2.String())
		}},
		{"in the name of the router: back with its second word", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.hear(router1, pio2, prefixB)
			l.uses(prefixB, RA, router1)
			l.hear(router1, pio1, prefixA)
			l.sleep(4 * time.Second)
			l.hear(router1, pio1, prefixA)
			l.uses(prefixA, RA, router1)
			wantPreferred(t, l, pio1.String())
		}},
		{"one that spreads its options over two advertisements", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.hear(router1, pio2, prefixB) // the first time it looks renumbered
			first, _ := l.Current()
			asked := 0
			for range 100 {
				l.sleep(10 * time.Minute)
				l.hear(router1, pio1, prefixA)
				l.hear(router1, pio2, prefixB)
				l.uses(first.Prefix, RA, router1)
				asked = l.routers.renewed()
			}
			if asked > 30 {
				t.Errorf("asked %d times in 16 hours", asked)
			}
		}},
		{"it goes on and on", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			moves, was := 0, prefixA
			for i := range 200 {
				ra := hourly(router1, time.Hour, flooded(i))
				ra.Prefixes = []PrefixInfo{pio(pio2)}
				ra.Prefixes[0].Prefix = netip.PrefixFrom(flooded(i+1000).Addr(), 64)
				l.send(ra)
				l.sleep(100 * time.Millisecond)
				if o, _ := l.Current(); o.Prefix != was {
					moves, was = moves+1, o.Prefix
				}
			}
			if moves > flapBurst {
				t.Errorf("%d moves in 20 s", moves)
			}
		}},
		{"and the PREF64 is gone", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.hear(router1, pio1, prefixA)
			l.hear(router1, pio2)
			l.sleep(time.Minute)
			l.uses(prefixB, DNS, server1)
		}},
	}.run(t)
}
