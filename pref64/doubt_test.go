package pref64

import (
	"net/netip"
	"testing"
	"time"
)

// TestDoubt: a PLAT that does not answer.
func TestDoubt(t *testing.T) {
	order := func(l *lookout, want ...netip.Prefix) {
		l.t.Helper()
		c := l.Snapshot().Candidates
		if len(c) != len(want) {
			l.t.Fatalf("candidates %v, want %v", c, want)
		}
		for i := range want {
			if c[i].Prefix != want[i] {
				l.t.Fatalf("candidates %v, want %v", c, want)
			}
		}
	}
	changed := func(l *lookout, want bool) {
		l.t.Helper()
		if l.announced() != want {
			l.t.Fatalf("announced: %v", !want)
		}
	}
	scripts{
		{"of two, and back", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixA, prefixB)
			changed(l, true)
			l.Doubt(prefixA, time.Minute)
			changed(l, true)
			order(l, prefixB, prefixA)
			if c := l.Snapshot().Candidates; c[0].Doubted || !c[1].Doubted {
				t.Errorf("candidates %v", c)
			}
			l.sleep(time.Minute - 1)
			l.uses(prefixB, RA, router1)
			changed(l, false)
			l.sleep(1)
			l.uses(prefixA, RA, router1)
			changed(l, true)
			order(l, prefixA, prefixB)
			l.sleep(30 * time.Minute)
			changed(l, false)
		}},
		{"the only one", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixA)
			changed(l, true)
			l.Doubt(prefixA, time.Minute)
			l.uses(prefixA, RA, router1)
			if !l.Snapshot().Candidates[0].Doubted {
				t.Error("not doubted")
			}
			l.sleep(time.Second) // it is news, though no change
			changed(l, true)
			l.sleep(time.Minute)
			if l.Snapshot().Candidates[0].Doubted {
				t.Error("doubted")
			}
		}},
		{"another one comes", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixA)
			l.Doubt(prefixA, time.Hour)
			l.hear(router2, pio1, prefixB)
			l.uses(prefixB, RA, router2)
		}},
		{"all: in turn", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixA, prefixB, prefixC)
			for _, next := range []netip.Prefix{prefixB, prefixC, prefixA, prefixB, prefixC} {
				o, _ := l.Current()
				l.Doubt(o.Prefix, 10*time.Minute)
				l.uses(next, RA, router1)
				l.sleep(time.Minute)
			}
		}},
		{"one that is not in use", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixA, prefixB)
			l.Doubt(prefixB, time.Minute)
			l.uses(prefixA, RA, router1)
			l.Doubt(prefixC, time.Minute)
			l.Doubt(netip.Prefix{}, time.Minute)
			l.uses(prefixA, RA, router1)
		}},
		{"ended early", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixA, prefixB)
			l.Doubt(prefixA, time.Hour)
			l.uses(prefixB, RA, router1)
			l.Doubt(prefixA, 0)
			l.uses(prefixA, RA, router1)
		}},
		{"the other one expires", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, PREF64: []PREF64{{prefixA, time.Hour}, {prefixB, time.Minute}}})
			l.Doubt(prefixA, 30*time.Minute)
			l.uses(prefixB, RA, router1)
			l.sleep(time.Minute)
			l.uses(prefixA, RA, router1)
		}},
		{"static ones too, in their order", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.Static = []netip.Prefix{prefixA, prefixB, prefixC} })
			l.Doubt(prefixA, time.Minute)
			l.Doubt(prefixB, 2*time.Minute)
			l.uses(prefixC, Static, netip.Addr{})
			order(l, prefixC, prefixA, prefixB)
			l.sleep(time.Minute)
			l.uses(prefixA, Static, netip.Addr{})
			l.sleep(time.Minute)
			order(l, prefixA, prefixB, prefixC)
		}},
		{"of the routers: DNS is asked too", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.hear(router1, pio1, prefixA)
			l.sleep(10 * time.Second)
			l.asks(0)
			l.Doubt(prefixA, 20*time.Minute)
			l.uses(prefixB, DNS, server1)
			order(l, prefixB, prefixA)
			l.says("router advertisements; DNS is asked too, because their NAT64 does not answer; DNS: from 2001:db8:53::1, again in 9m50s")
			l.sleep(20 * time.Minute)
			l.uses(prefixA, RA, router1)
			order(l, prefixA)
			l.dns.take()
			l.sleep(20 * time.Minute)
			l.asks(0)
			l.says("router advertisements")
		}},
		{"DNS says the same", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, reply{ttl: 600, addrs: dns64(prefixA)})
			l.hear(router1, pio1, prefixA)
			l.sleep(10 * time.Second)
			l.Doubt(prefixA, 15*time.Minute)
			l.uses(prefixA, RA, router1)
			order(l, prefixA)
		}},
		{"the limit on changes holds", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixA, prefixB)
			changes, was := 0, prefixA
			for range 100 {
				l.sleep(time.Millisecond)
				l.Doubt(was, time.Hour)
				if o, ok := l.Current(); !ok {
					t.Fatal("left without")
				} else if o.Prefix != was {
					changes++
					was = o.Prefix
				}
			}
			if changes != flapBurst-1 {
				t.Errorf("%d changes", changes)
			}
		}},
		{"another network: the doubt was about the other one's", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixC, prefixB)
			l.Doubt(prefixC, time.Hour)
			l.uses(prefixB, RA, router1)
			l.Attached()
			l.hear(router2, pio2, prefixC, prefixB)
			l.uses(prefixC, RA, router2)
		}},
		{"the same network: it stays in doubt", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixC, prefixB)
			l.Doubt(prefixC, time.Hour)
			l.Attached()
			l.hear(router1, pio1, prefixC, prefixB)
			l.uses(prefixB, RA, router1)
		}},
		{"no end of doubts", func(t *testing.T) {
			l := newLookout(t, nil)
			for i := range 200 {
				l.Doubt(flooded(i), time.Hour)
			}
			l.Tracker.mu.Lock()
			defer l.Tracker.mu.Unlock()
			if n := len(l.state.doubts); n != maxDoubts {
				t.Errorf("%d doubts", n)
			}
		}},
	}.run(t)
}
