package pref64

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var bad1 = netip.MustParseAddr("fe80::bad")

// TestAdmit is who goes when a table is full.
func TestAdmit(t *testing.T) {
	// Lower case letters are neighbours, upper case ones default routers, a and
	// A the first of them to be heard; a dash is what never goes.
	owner := func(c byte) netip.Addr {
		if c == '-' {
			return netip.Addr{}
		}
		return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: c})
	}
	judge := func(a netip.Addr) (class, age int) {
		c := a.As16()[15]
		if c >= 'a' {
			return 3, int(c - 'a')
		}
		return 1, int(c - 'A')
	}
	for _, c := range []struct {
		table    string
		newcomer byte
		evict    int
		ok       bool
	}{
		{"", 'a', -1, true},
		{"abc", 'd', -1, true},
		{"aab", 'a', -1, false}, // its own share is full
		{"abcd", 'e', -1, false},
		{"abcd", 'A', 3, true},
		{"aabb", 'A', 3, true},
		{"aabc", 'd', 1, true}, // who has most gives
		{"bbcc", 'a', 3, true}, // to who has less
		{"abcA", 'B', 2, true}, // a router never gives to a neighbour
		{"ABCD", 'e', -1, false},
		{"AABB", 'C', 3, true},
		{"ABCD", 'E', -1, false},
		{"BCDE", 'A', 3, true}, // the youngest gives to an older one
		{"----", 'A', -1, false},
		{"---a", 'A', 3, true},
	} {
		evict, ok := admit(len(c.table), 4, 2, func(i int) netip.Addr { return owner(c.table[i]) }, owner(c.newcomer), judge)
		if evict != c.evict || ok != c.ok {
			t.Errorf("%q and %c: %d goes, %v; want %d, %v", c.table, c.newcomer, evict, ok, c.evict, c.ok)
		}
	}
}

// hourly returns an advertisement of router with the prefixes, for an hour.
func hourly(router netip.Addr, lifetime time.Duration, prefixes ...netip.Prefix) RouterAdvertisement {
	ra := RouterAdvertisement{Router: router, RouterLifetime: lifetime}
	for _, p := range prefixes {
		ra.PREF64 = append(ra.PREF64, PREF64{Prefix: p, Lifetime: time.Hour})
	}
	return ra
}

func pio(p netip.Prefix) PrefixInfo {
	return PrefixInfo{Prefix: p, OnLink: true, Autonomous: true, Valid: 2 * time.Hour, Preferred: time.Hour}
}

// TestRank is whose word is followed.
func TestRank(t *testing.T) {
	scripts{
		{"a neighbour comes after a router, whoever is first", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.send(hourly(bad1, 0, prefixB))
			l.uses(prefixB, RA, bad1) // there is nothing else
			l.hear(router1, pio1, prefixA)
			l.uses(prefixA, RA, router1)
			l.send(hourly(bad1, 0, prefixB))
			l.uses(prefixA, RA, router1)
		}},
		{"a neighbour comes after DNS", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.send(hourly(bad1, 0, prefixA))
			l.usesNone() // DNS has had no chance yet
			l.hear(router1, pio1)
			l.sleep(time.Second)
			l.uses(prefixB, DNS, server1)
			l.send(hourly(bad1, 0, prefixA))
			l.uses(prefixB, DNS, server1)
		}},
		{"and is followed where nobody else knows", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, nay)
			l.hear(router1, pio1)
			l.send(hourly(bad1, 0, prefixA))
			l.sleep(time.Second)
			l.uses(prefixA, RA, bad1)
		}},
		{"no doubt makes a neighbour's prefix the better one", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixA)
			l.send(hourly(bad1, 0, prefixB))
			l.Doubt(prefixA, time.Hour)
			l.uses(prefixA, RA, router1)
		}},
		{"the router that the host prefers", func(t *testing.T) {
			for _, c := range []struct {
				name string
				tell func(l *lookout)
				want netip.Prefix
			}{
				{"the first", func(*lookout) {}, prefixA},
				{"RFC 4191", func(l *lookout) {
					ra := hourly(router2, time.Hour)
					ra.Preference = High
					l.send(ra)
				}, prefixB},
				{"the metric of the host's route", func(l *lookout) {
					l.SetRouters([]Gateway{{router1, 1024}, {router2, 100}})
				}, prefixB},
			} {
				l := newLookout(t, func(o *Options) { o.DNS = false })
				c.tell(l)
				// While it is not used both become known.
				l.SetOwn([]netip.Prefix{prefixA, prefixB})
				a, b := hourly(router1, time.Hour, prefixA), hourly(router2, time.Hour, prefixB)
				if c.name == "RFC 4191" {
					b.Preference = High
				}
				l.send(a)
				l.send(b)
				l.SetOwn(nil)
				if o, _ := l.Current(); o.Prefix != c.want {
					t.Errorf("%s: in use is %v, want %v", c.name, o.Prefix, c.want)
				}
			}
		}},
		{"a forged router of high preference does not replace what is in use", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			ra := hourly(bad1, 18*time.Hour, prefixB)
			ra.Preference = High
			l.send(ra)
			l.SetRouters([]Gateway{{bad1, 100}, {router1, 1024}})
			l.uses(prefixA, RA, router1)
		}},
		{"nor what DNS says on a network that has a router", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.hear(router1, pio1)
			l.sleep(time.Second)
			l.uses(prefixB, DNS, server1)
			l.sleep(time.Second)
			l.send(hourly(bad1, 18*time.Hour, prefixA))
			l.says("router advertisements; DNS is asked too, because its prefix was in use before their router appeared; DNS: from 2001:db8:53::1, again in 9m49s")
			for range 28 {
				l.sleep(time.Minute)
				l.uses(prefixB, DNS, server1)
			}
			l.hear(router1, pio1, prefixC)
			l.uses(prefixC, RA, router1)
		}},
		{"nor does it once its router lifetime has ended", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.SetRouters([]Gateway{{router1, 1024}})
			l.hear(router1, pio1)
			l.sleep(time.Second)
			l.uses(prefixB, DNS, server1)
			l.sleep(time.Second)
			l.SetRouters([]Gateway{{router1, 1024}, {bad1, 1024}})
			l.send(hourly(bad1, time.Second, prefixA))
			l.sleep(2 * time.Second)
			l.uses(prefixB, DNS, server1) // the kernel's route may still be there
			l.SetRouters([]Gateway{{router1, 1024}})
			l.says("router advertisements; DNS is asked too, because their router is no default router any more; DNS: from 2001:db8:53::1, again in 9m47s")
			for range 28 {
				l.sleep(time.Minute)
				l.uses(prefixB, DNS, server1)
			}
		}},
		{"a station that was a router for a second does not keep the router's prefix out", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.send(hourly(bad1, time.Second, prefixB))
			l.sleep(2 * time.Second)
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, PREF64: []PREF64{{prefixA, 0}}})
			l.uses(prefixB, RA, bad1) // there is nothing else
			l.hear(router1, pio1, prefixA)
			l.uses(prefixA, RA, router1)
		}},
		{"a forged router says the same, with high preference", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			ra := hourly(bad1, 18*time.Hour, prefixA)
			ra.Preference = High
			l.send(ra)
			l.SetRouters([]Gateway{{bad1, 100}, {router1, 1024}})
			l.uses(prefixA, RA, router1)
			if rs := l.Snapshot().Routers[0]; len(rs) != 2 || rs[0] != router1 {
				t.Errorf("routers %v", rs)
			}
		}},
		{"one of two routers is unreachable, until it speaks", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.hear(router2, pio2, prefixA)
			l.Unreachable(router1)
			l.uses(prefixA, RA, router2)
			for _, o := range l.Snapshot().OnLink {
				if o.Preferred != (o.Router == router2) {
					t.Errorf("%+v", o)
				}
			}
			l.hear(router1, pio1, prefixA)
			l.uses(prefixA, RA, router2)
			for _, o := range l.Snapshot().OnLink {
				if !o.Preferred {
					t.Errorf("%+v", o)
				}
			}
		}},
		{"a router by the host's routes alone", func(t *testing.T) {
			l := newLookout(t, nil)
			l.SetRouters([]Gateway{{router1, 1024}})
			l.send(hourly(router1, 0, prefixA))
			l.uses(prefixA, RA, router1)
		}},
		{"forged routers do not lock the true one out", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			for i := range 64 {
				from := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: 0xba, 15: byte(i % 2)})
				l.send(hourly(from, 0, flooded(i)))
			}
			l.hear(router1, pio1, prefixA)
			l.uses(prefixA, RA, router1)
		}},
		{"nor do those with a router lifetime", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixA)
			for i := range 640 {
				from := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: 0xba, 15: byte(i % 40)})
				l.send(hourly(from, 18*time.Hour, flooded(i)))
			}
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, PREF64: []PREF64{{prefixA, 0}, {prefixB, time.Hour}}})
			known := false
			for _, c := range l.Snapshot().Candidates {
				known = known || c.Prefix == prefixB && c.Router == router1
			}
			if !known {
				t.Error("the router's new prefix is not known")
			}
		}},
		{"a farewell in the name of the router", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixA)
			l.send(hourly(bad1, 18*time.Hour, prefixB))
			l.send(hourly(router1, 0))
			l.uses(prefixA, RA, router1)
			if l.routers.renewed() == 0 {
				t.Error("the router is not asked")
			}
			l.hear(router1, pio1, prefixA)
			l.sleep(20 * time.Minute)
			l.uses(prefixA, RA, router1)
		}},
		{"a farewell that takes a second", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.hear(router1, pio1)
			l.sleep(2 * time.Second)
			l.uses(prefixB, DNS, server1)
			l.send(hourly(router1, time.Second))
			if l.routers.renewed() == 0 {
				t.Error("the router is not asked")
			}
			l.sleep(4 * time.Second)
			l.hear(router1, pio1)
			l.send(hourly(bad1, 18*time.Hour, prefixA))
			l.sleep(20 * time.Minute)
			l.uses(prefixB, DNS, server1) // router1 was there before bad1
		}},
		{"a withdrawal in the name of the router ends with its next word", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.hear(router1, pio1, prefixA)
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, PREF64: []PREF64{{prefixA, 0}}})
			l.usesNone()
			if l.routers.renewed() != 1 {
				t.Errorf("asked %d times", l.routers.renewed())
			}
			l.hear(router1, pio1, prefixA)
			l.uses(prefixA, RA, router1)
		}},
		{"a neighbour's resolver is not asked where a router advertises one", func(t *testing.T) {
			l := newLookout(t, nil)
			l.own = []netip.Addr{server2} // a network manager has believed it
			l.dns.answers(server2, reply{ttl: 600, addrs: dns64(prefixA)})
			l.dns.answers(server1, nay)
			say := func(router netip.Addr, lifetime time.Duration, servers ...netip.Addr) {
				l.send(RouterAdvertisement{Router: router, RouterLifetime: lifetime, RDNSS: []RDNSS{{servers, time.Hour}}})
			}
			say(bad1, 0, server2)
			for i := range 20 {
				say(netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(100 + i)}), 0, netip.AddrFrom16([16]byte{0: 0x20, 15: byte(i)}))
			}
			say(router1, time.Hour, server1)
			l.sleep(5 * time.Second)
			l.usesNone()
			for _, a := range l.dns.take() {
				if a.server != server1 {
					t.Errorf("%v is asked", a.server)
				}
			}
		}},
		{"nor does it keep the link's own out where none does", func(t *testing.T) {
			dead := make([]netip.Addr, 4)
			for i := range dead {
				dead[i] = netip.AddrFrom16([16]byte{0: 0x20, 15: byte(1 + i)})
			}
			for _, c := range []struct {
				name     string
				lifetime time.Duration // of the forged router
				believed bool          // by a network manager
			}{
				{"no default router", 0, false},
				{"no default router, and a manager believes it", 0, true},
				{"a default router for a second", time.Second, true},
				{"a default router", 18 * time.Hour, false},
			} {
				l := newLookout(t, nil)
				l.dns.answers(server1, yes)
				if c.believed {
					l.own = append(slices.Clone(dead), server1)
				}
				l.hear(router1, pio1)
				l.sleep(2 * time.Second)
				l.send(RouterAdvertisement{Router: bad1, RouterLifetime: c.lifetime, RDNSS: []RDNSS{{dead, Infinite}}})
				l.sleep(28 * time.Minute)
				if o, _ := l.Current(); o.Prefix != prefixB {
					t.Errorf("%s: in use is %v; %s", c.name, o.Prefix, l.Snapshot().Discovery)
				}
			}
		}},
		{"the MTU of a neighbour", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.send(RouterAdvertisement{Router: bad1, MTU: 1280})
			if mtu := l.Snapshot().MTU; mtu != 0 {
				t.Errorf("the MTU is %d", mtu)
			}
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, MTU: 1400})
			if mtu := l.Snapshot().MTU; mtu != 1400 {
				t.Errorf("the MTU is %d", mtu)
			}
		}},
	}.run(t)
}

// TestOwn is which of the host's own prefixes count against a PREF64.
func TestOwn(t *testing.T) {
	wide := netip.MustParsePrefix("64:ff9b::/64") // contains prefixC
	for _, c := range []struct {
		name string
		tell func(l *lookout)
		used bool
	}{
		{"of an administrator", func(l *lookout) {}, false},
		{"by a neighbour", func(l *lookout) {
			l.send(RouterAdvertisement{Router: bad1, Prefixes: []PrefixInfo{pio(wide)}})
		}, true},
		{"by another router, later", func(l *lookout) {
			l.send(RouterAdvertisement{Router: router2, RouterLifetime: time.Hour, Prefixes: []PrefixInfo{pio(wide)}})
		}, true},
		{"by the router itself", func(l *lookout) {
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, Prefixes: []PrefixInfo{pio(wide)}})
		}, false},
		{"by a neighbour that takes it back: the kernel keeps the address", func(l *lookout) {
			l.send(RouterAdvertisement{Router: bad1, Prefixes: []PrefixInfo{pio(wide)}})
			l.SetOwn([]netip.Prefix{wide})
			p := pio(wide)
			p.Valid, p.Preferred = 0, 0
			l.send(RouterAdvertisement{Router: bad1, Prefixes: []PrefixInfo{p}})
		}, true},
		{"by a neighbour that floods the table afterwards", func(l *lookout) {
			l.send(RouterAdvertisement{Router: bad1, Prefixes: []PrefixInfo{pio(wide)}})
			l.SetOwn([]netip.Prefix{wide})
			for i := range 640 {
				from := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: byte(i >> 8), 15: byte(i)})
				p := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 6: byte(i >> 8), 7: byte(i)}), 64)
				l.send(RouterAdvertisement{Router: from, RouterLifetime: time.Hour, Prefixes: []PrefixInfo{pio(p)}})
			}
		}, true},
		{"by a neighbour, before the carrier was away or the host asleep", func(l *lookout) {
			l.send(RouterAdvertisement{Router: bad1, Prefixes: []PrefixInfo{pio(wide)}})
			for range 2 {
				l.SetOwn([]netip.Prefix{pio1, wide})
				l.sleep(time.Minute)
				l.Attached()
				l.hear(router1, pio1, prefixC)
				l.sleep(time.Minute)
			}
		}, true},
		{"by a neighbour, for a while: the kernel may keep the address longer", func(l *lookout) {
			p := pio(wide)
			p.Valid, p.Preferred = time.Second, time.Second
			l.send(RouterAdvertisement{Router: bad1, Prefixes: []PrefixInfo{p}})
			l.SetOwn([]netip.Prefix{wide})
			l.sleep(time.Minute)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLookout(t, func(o *Options) { o.DNS = false })
				l.hear(router1, pio1, prefixC)
				l.sleep(time.Second)
				c.tell(l)
				l.SetOwn([]netip.Prefix{pio1, wide})
				s := l.Snapshot()
				if used := len(s.Candidates) == 1; used != c.used {
					t.Errorf("used: %v, want %v", used, c.used)
				}
				if c.used && len(s.Excused) != 1 {
					t.Errorf("excused %v", s.Excused)
				}
			})
		})
	}
}

// TestOnLinkWithdrawn: only the router that advertises a prefix takes it back.
func TestOnLinkWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLookout(t, nil)
		l.hear(router1, pio1, prefixA)
		p := pio(pio1)
		p.Valid, p.Preferred = 0, 0
		l.send(RouterAdvertisement{Router: bad1, Prefixes: []PrefixInfo{p}})
		p.Valid = time.Hour
		l.send(RouterAdvertisement{Router: bad1, Prefixes: []PrefixInfo{p}})
		good := func() bool {
			for _, o := range l.Snapshot().OnLink {
				if o.Router == router1 && o.Default && o.Preferred {
					return true
				}
			}
			return false
		}
		if !good() {
			t.Errorf("%+v", l.Snapshot().OnLink)
		}
		p.Valid = 0
		l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, Prefixes: []PrefixInfo{p}})
		if good() {
			t.Errorf("%+v", l.Snapshot().OnLink)
		}
	})
}
