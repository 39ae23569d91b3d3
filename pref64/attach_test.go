package pref64

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestAttached: what was heard before counts on, or not.
func TestAttached(t *testing.T) {
	var (
		rdnss  = []RDNSS{{[]netip.Addr{server2}, time.Hour}}
		lookup = func(t *testing.T) *lookout {
			l := newLookout(t, nil)
			l.own = nil
			return l
		}
	)
	scripts{
		{"the same network", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			l.announced()
			l.sleep(time.Minute)
			for range 20 {
				l.Attached()
				l.uses(prefixA, RA, router1)
				if s := l.Snapshot(); s.HeardRA || s.SLAAC != nil {
					t.Fatalf("%+v", s)
				}
				l.sleep(300 * time.Millisecond)
				l.hear(router1, pio1, prefixA)
				l.sleep(time.Minute)
				l.uses(prefixA, RA, router1)
			}
			if l.routers.attaches != 20 {
				t.Errorf("%d attaches", l.routers.attaches)
			}
			l.asks(0)
		}},
		{"another network, another prefix: one change", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			l.sleep(time.Minute)
			l.Attached()
			l.announced()
			l.sleep(time.Second)
			l.uses(prefixA, RA, router1)
			if l.announced() {
				t.Error("announced")
			}
			l.hear(router2, pio2, prefixB)
			l.uses(prefixB, RA, router2)
			if c := l.Snapshot().Candidates; len(c) != 1 {
				t.Errorf("candidates %v", c)
			}
		}},
		{"another network, same router address", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			l.Attached()
			l.hear(router1, pio2, prefixB)
			l.uses(prefixB, RA, router1)
		}},
		{"another network, same prefix: no change", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixC)
			l.Attached()
			l.hear(router2, pio2, prefixC)
			l.uses(prefixC, RA, router2)
			l.sleep(confirmWithin)
			l.uses(prefixC, RA, router2)
		}},
		{"another network without", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			l.Attached()
			l.sleep(time.Second)
			l.hear(router2, pio2)
			l.usesNone()
			l.says("router advertisements carry no PREF64; DNS: asked in 1s")
		}},
		{"a network without routers", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			l.Attached()
			l.sleep(confirmWithin - 1)
			l.uses(prefixA, RA, router1)
			l.sleep(1)
			l.usesNone()
		}},
		{"an advertisement of no default router decides nothing", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			l.Attached()
			l.send(RouterAdvertisement{Router: router2})
			l.uses(prefixA, RA, router1)
			if !l.Snapshot().HeardRA {
				t.Error("not heard")
			}
		}},
		{"the kernel alone tells: confirmed", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			l.Attached()
			l.Apply(Report{Observations: []Observation{{Prefix: prefixA, Origin: RA, Router: router1, Interface: uplink, Expires: time.Now().Add(time.Hour)}}})
			l.sleep(confirmWithin)
			l.uses(prefixA, RA, router1)
		}},
		{"the kernel alone tells: another", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			l.Attached()
			l.Apply(Report{Observations: []Observation{{Prefix: prefixB, Origin: RA, Router: router1, Interface: uplink, Expires: time.Now().Add(time.Hour)}}})
			l.uses(prefixB, RA, router1)
			l.sleep(confirmWithin)
			if c := l.Snapshot().Candidates; len(c) != 1 {
				t.Errorf("candidates %v", c)
			}
		}},
		{"the same network has taken it back meanwhile", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			l.Attached()
			l.hear(router1, pio1)
			l.usesNone()
		}},
		{"two routers of the same network: the other one's stays", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			l.hear(router2, pio1, prefixB)
			l.hear(router1, pio1, prefixA)
			l.uses(prefixA, RA, router1)
			l.Attached()
			l.hear(router1, pio1, prefixA)
			l.sleep(time.Minute)
			if c := l.Snapshot().Candidates; len(c) != 2 {
				t.Errorf("candidates %v", c)
			}
		}},
		{"flaps without a word in between", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			for range 5 {
				l.Attached()
				l.sleep(time.Second)
			}
			l.hear(router1, pio1)
			l.usesNone()
			l.hear(router1, pio1, prefixA)
			l.uses(prefixA, RA, router1)
		}},
		{"DNS, the same network: kept, and asked again", func(t *testing.T) {
			l := lookup(t)
			l.dns.answers(server2, yes)
			ra := RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, RDNSS: rdnss,
				Prefixes: []PrefixInfo{{Prefix: pio1, Autonomous: true, Valid: time.Hour}}}
			l.send(ra)
			l.sleep(time.Second)
			l.uses(prefixB, DNS, server2)
			l.asks(1)
			l.Attached()
			l.send(ra)
			l.uses(prefixB, DNS, server2)
			l.asks(0)
			l.sleep(time.Second)
			l.asks(1)
			l.uses(prefixB, DNS, server2)
		}},
		{"DNS, another network: the old resolver is not asked", func(t *testing.T) {
			l := lookup(t)
			l.dns.answers(server2, yes)
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, RDNSS: rdnss})
			l.sleep(time.Second)
			l.uses(prefixB, DNS, server2)
			l.asks(1)
			l.Attached()
			if s := l.Snapshot().Resolvers; s != nil {
				t.Errorf("resolvers %v", s)
			}
			l.sleep(confirmWithin)
			l.usesNone()
			l.hear(router2, pio2)
			l.sleep(time.Minute)
			l.asks(0)
		}},
		{"DNS, another network: asked there", func(t *testing.T) {
			l := lookup(t)
			l.own = []netip.Addr{server1}
			l.dns.answers(server1, yes)
			l.hear(router1, pio1)
			l.sleep(time.Second)
			l.uses(prefixB, DNS, server1)
			l.asks(1)
			l.own = []netip.Addr{server2}
			l.dns.answers(server2, reply{ttl: 600, addrs: dns64(prefixC)})
			l.Attached()
			l.hear(router2, pio2)
			l.usesNone()
			l.sleep(time.Second)
			l.uses(prefixC, DNS, server2)
			l.asks(1)
		}},
		{"DNS, no router there: its answer takes over", func(t *testing.T) {
			l := lookup(t)
			l.hear(router1, pio1, prefixA)
			l.own = []netip.Addr{server1}
			l.dns.answers(server1, yes)
			l.Attached()
			l.sleep(silenceBeforeDNS)
			l.uses(prefixB, DNS, server1)
			l.sleep(time.Minute)
			l.uses(prefixB, DNS, server1)
			l.asks(1)
		}},
		{"a question that is under way is given up", func(t *testing.T) {
			l := lookup(t)
			l.own = []netip.Addr{server1}
			l.dns.set(server1, func(_ string, q []byte, send func([]byte) error) {
				time.Sleep(500 * time.Millisecond)
				send(yes.from(t, q))
			})
			l.hear(router1, pio1)
			l.sleep(time.Second + 100*time.Millisecond)
			l.Attached()
			l.sleep(2 * time.Second)
			l.usesNone()
			l.sleep(1500 * time.Millisecond)
			l.uses(prefixB, DNS, server1)
		}},
		{"a negative answer of the network before", func(t *testing.T) {
			l := lookup(t)
			l.own = []netip.Addr{server1}
			l.dns.answers(server1, nay)
			l.hear(router1, pio1)
			l.sleep(time.Second)
			l.dns.answers(server1, yes)
			l.Attached()
			l.hear(router2, pio2)
			l.sleep(time.Second)
			l.uses(prefixB, DNS, server1)
		}},
		{"MTU", func(t *testing.T) {
			l := lookup(t)
			ra := RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, MTU: 1400,
				Prefixes: []PrefixInfo{{Prefix: pio1, Autonomous: true, Valid: time.Hour}}}
			l.send(ra)
			l.Attached()
			l.send(ra)
			if m := l.Snapshot().MTU; m != 1400 {
				t.Errorf("MTU %d", m)
			}
			l.Attached()
			l.announced()
			l.hear(router2, pio2)
			if m := l.Snapshot().MTU; m != 0 || !l.announced() {
				t.Errorf("MTU %d, or not announced", m)
			}
		}},
		{"static ones do not care", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.Static = []netip.Prefix{prefixC} })
			l.Attached()
			l.sleep(time.Minute)
			l.uses(prefixC, Static, netip.Addr{})
		}},
	}.run(t)
}

// TestSLAAC: the prefixes for addresses of this attachment.
func TestSLAAC(t *testing.T) {
	info := func(p netip.Prefix, valid time.Duration) PrefixInfo {
		return PrefixInfo{Prefix: p, OnLink: true, Autonomous: true, Valid: valid, Preferred: min(valid, time.Hour)}
	}
	send := func(l *lookout, router netip.Addr, all ...PrefixInfo) {
		l.send(RouterAdvertisement{Router: router, RouterLifetime: time.Hour, Prefixes: all})
	}
	has := func(l *lookout, want ...netip.Prefix) {
		l.t.Helper()
		if s := l.Snapshot(); !slices.Equal(s.SLAAC, want) || !s.HeardRA {
			l.t.Fatalf("got %v, want %v", s.SLAAC, want)
		}
	}
	scripts{
		{"nothing heard", func(t *testing.T) {
			l := newLookout(t, nil)
			if s := l.Snapshot(); s.HeardRA || s.SLAAC != nil {
				t.Errorf("%+v", s)
			}
		}},
		{"DHCPv6 only", func(t *testing.T) {
			l := newLookout(t, nil)
			send(l, router1, PrefixInfo{Prefix: pio1, OnLink: true, Valid: time.Hour})
			has(l)
			if !l.announced() {
				t.Error("not announced")
			}
		}},
		{"until the valid lifetime ends, which is announced", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			send(l, router1, info(pio1, 10*time.Minute), info(pio2, Infinite))
			has(l, pio1, pio2)
			l.announced()
			l.sleep(10*time.Minute - 1)
			has(l, pio1, pio2)
			if l.announced() {
				t.Error("announced")
			}
			l.sleep(1)
			has(l, pio2)
			if !l.announced() {
				t.Error("not announced")
			}
			l.sleep(10000 * time.Hour)
			has(l, pio2)
		}},
		{"refreshed, shortened, taken back", func(t *testing.T) {
			l := newLookout(t, nil)
			send(l, router1, info(pio1, 10*time.Minute))
			l.sleep(5 * time.Minute)
			send(l, router2, info(pio1, 10*time.Minute))
			l.sleep(9 * time.Minute)
			has(l, pio1)
			send(l, router1, info(pio1, 0))
			has(l)
		}},
		{"of no use for addresses", func(t *testing.T) {
			l := newLookout(t, nil)
			send(l, router1, info(netip.MustParsePrefix("2001:db8::/56"), time.Hour), info(netip.MustParsePrefix("fe80::/64"), time.Hour),
				PrefixInfo{Prefix: pio1, Autonomous: true, Valid: time.Minute, Preferred: time.Hour})
			has(l)
		}},
		{"a flood", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1)
			l.announced()
			times := 0
			for i := range 500 {
				p := netip.PrefixFrom(flooded(i).Addr(), 64)
				send(l, router2, info(p, time.Second))
				if l.announced() {
					times++
				}
				l.sleep(20 * time.Millisecond)
			}
			if times > 10+newsBurst {
				t.Errorf("announced %d times in ten seconds", times)
			}
			l.sleep(time.Minute)
			has(l, pio1)
			if l.IgnoredTotals()[TooMany] == 0 {
				t.Error("not counted")
			}
		}},
	}.run(t)
}
