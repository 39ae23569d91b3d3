package pref64

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var (
	pio1 = netip.MustParsePrefix("2001:db8:1:1::/64")
	pio2 = netip.MustParsePrefix("2001:db8:2:2::/64")

	yes = reply{ttl: 600, addrs: dns64(prefixB)}
	nay = reply{rcode: dnsmessage.RCodeNameError, soa: true, soaTTL: 3600, soaMin: 900}
)

// scripts run in bubbles of their own.
type scripts []struct {
	name string
	run  func(t *testing.T)
}

func (all scripts) run(t *testing.T) {
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) { synctest.Test(t, c.run) })
	}
}

// TestOrder shows which source is asked, and when (RFC 9872 section 3.1).
func TestOrder(t *testing.T) {
	scripts{
		{"routers advertise: DNS is never asked", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.sleep(500 * time.Millisecond)
			for range 100 {
				l.hear(router1, pio1, prefixA)
				l.uses(prefixA, RA, router1)
				l.sleep(30 * time.Minute)
			}
			l.asks(0)
			l.says("router advertisements")
		}},
		{"routers advertise none: DNS is asked after another second", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.sleep(200 * time.Millisecond)
			l.hear(router1, pio1)
			l.says("router advertisements carry no PREF64; DNS: asked in 1s")
			l.hear(router2, pio1)
			l.sleep(time.Second - 1)
			l.asks(0)
			l.sleep(1)
			l.asks(1)
			l.uses(prefixB, DNS, server1)
			l.says("router advertisements carry no PREF64; DNS: from 2001:db8:53::1, again in 9m50s")
			if o, _ := l.Current(); o.Interface != uplink || time.Until(o.Expires) != 10*time.Minute+graceTTL {
				t.Errorf("got %+v", o)
			}
		}},
		{"another router advertises one within that second", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.hear(router1, pio1)
			l.sleep(900 * time.Millisecond)
			l.hear(router2, pio1, prefixA)
			l.sleep(30 * time.Minute)
			l.uses(prefixA, RA, router2)
			l.asks(0)
		}},
		{"an advertisement of no default router says nothing", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.send(RouterAdvertisement{Router: router1})
			l.says("no default router has been heard; DNS: asked in 3s")
			l.sleep(silenceBeforeDNS - 1)
			l.asks(0)
			l.sleep(1)
			l.asks(1)
		}},
		{"no router at all", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.says("no router advertisement has been heard; DNS: asked in 3s")
			l.sleep(silenceBeforeDNS - 1)
			l.asks(0)
			l.sleep(1)
			l.asks(1)
			l.uses(prefixB, DNS, server1)
		}},
		{"what DNS said is dropped when a router advertises", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.hear(router1, pio1)
			l.sleep(time.Second)
			l.uses(prefixB, DNS, server1)
			l.asks(1)
			l.hear(router1, pio1, prefixA)
			l.uses(prefixA, RA, router1)
			if c := l.Snapshot().Candidates; len(c) != 1 {
				t.Errorf("candidates %v", c)
			}
			l.sleep(50 * time.Minute)
			l.asks(0)
		}},
		{"the answer comes after the advertisement", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.set(server1, func(_ string, q []byte, send func([]byte) error) {
				time.Sleep(500 * time.Millisecond)
				send(yes.from(t, q))
			})
			l.hear(router1, pio1)
			l.sleep(time.Second + 100*time.Millisecond)
			l.asks(1)
			l.hear(router1, pio1, prefixA)
			l.sleep(time.Minute)
			l.uses(prefixA, RA, router1)
			l.asks(0)
			if c := l.Snapshot().Candidates; len(c) != 1 {
				t.Errorf("candidates %v", c)
			}
		}},
		{"the advertised one expires", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.hear(router1, pio1, prefixA)
			l.sleep(time.Hour)
			l.usesNone()
			l.asks(0)
			l.sleep(time.Second)
			l.uses(prefixB, DNS, server1)
		}},
		{"the advertised one is withdrawn, and comes and goes", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			for range 4 {
				l.hear(router1, pio1, prefixA)
				l.uses(prefixA, RA, router1)
				l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, PREF64: []PREF64{{prefixA, 0}}})
				l.usesNone()
				l.sleep(time.Minute)
				l.uses(prefixB, DNS, server1)
			}
			l.asks(4)
		}},
		{"an advertised one that cannot be used", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.SetOwn([]netip.Prefix{prefixA})
			l.hear(router1, pio1, prefixA)
			l.sleep(time.Second)
			l.uses(prefixB, DNS, server1)
			l.SetOwn(nil)
			l.uses(prefixA, RA, router1)
		}},
		{"static prefixes disable discovery", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.Static = []netip.Prefix{prefixC} })
			if !l.announced() {
				t.Error("not announced")
			}
			l.dns.answers(server1, yes)
			l.Refresh()
			l.Attached()
			l.sleep(time.Hour)
			l.uses(prefixC, Static, netip.Addr{})
			l.asks(0)
			if l.routers.runs+l.routers.solicits+l.routers.attaches != 0 {
				t.Error("routers are listened to")
			}
			l.says("configured; nothing is discovered")
		}},
		{"DNS alone: at once", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.RA = false })
			l.asks(len(timeouts))
			l.says("DNS: 2001:db8:53::1 cannot be reached (network is unreachable) (again in 2s)")
			l.dns.answers(server1, yes)
			l.sleep(5 * time.Second)
			l.uses(prefixB, DNS, server1)
		}},
		{"DNS alone: routers name the resolvers, and no prefix", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.RA = false })
			l.own = nil
			l.dns.answers(server1, yes)
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour,
				RDNSS: []RDNSS{{[]netip.Addr{server1}, time.Hour}}, PREF64: []PREF64{{prefixA, time.Hour}}})
			l.sleep(5 * time.Second)
			l.uses(prefixB, DNS, server1)
			if c := l.Snapshot().Candidates; len(c) != 1 {
				t.Errorf("candidates %v", c)
			}
		}},
		{"routers alone", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.dns.answers(server1, yes)
			l.hear(router1, pio1)
			l.sleep(time.Hour)
			l.asks(0)
			l.says("router advertisements carry no PREF64; DNS is not asked (discovery.sources)")
		}},
		{"nothing", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.RA, o.DNS = false, false })
			l.sleep(time.Hour)
			l.asks(0)
			l.says("nothing is configured and nothing is discovered")
		}},
	}.run(t)
}

// TestListenAgain: a source that breaks is started again, and said once.
func TestListenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		routers := &fakeRouters{fail: errTest}
		dns := &fakeDNS{t: t, servers: map[netip.Addr]handler{}}
		f := newFinder(Options{RA: true, Log: textLog(&log)}, routers, dns.dial)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go f.Run(ctx)
		time.Sleep(time.Second)
		if want := "router advertisements cannot be received: out of order; DNS is not asked (discovery.sources)"; f.Snapshot().Discovery != want {
			t.Errorf("says %q", f.Snapshot().Discovery)
		}
		time.Sleep(100 * time.Second)
		routers.mu.Lock()
		if routers.runs != 4 {
			t.Errorf("%d runs", routers.runs)
		}
		routers.fail = nil
		routers.mu.Unlock()
		time.Sleep(time.Minute)
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines:\n%s", n, &log)
		}
		if s := f.Snapshot().Discovery; strings.Contains(s, "cannot") {
			t.Errorf("says %q", s)
		}
	})
}

// TestWhom shows which resolvers are asked.
func TestWhom(t *testing.T) {
	for _, c := range []struct {
		name       string
		configured []netip.Addr
		advertised []netip.Addr
		own        []netip.Addr
		want       []netip.Addr
		says       string
	}{
		{"advertised ones first", nil, addrs("2001:db8:53::1"), addrs("2001:db8:53::2"), addrs("2001:db8:53::1", "2001:db8:53::2"), ""},
		{"each once", nil, addrs("2001:db8:53::1"), addrs("2001:db8:53::1"), addrs("2001:db8:53::1"), ""},
		{"configured ones alone", addrs("2001:db8:53::9"), addrs("2001:db8:53::1"), addrs("2001:db8:53::2"), addrs("2001:db8:53::9"), ""},
		{"on the link", nil, addrs("fe80::53"), addrs("fe80::54%7"), addrs("fe80::53", "fe80::54"), ""},
		{"no more than a few", nil, addrs("2001:db8::1", "2001:db8::2", "2001:db8::3"), addrs("2001:db8::4", "2001:db8::5"),
			addrs("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"), ""},
		{"none", nil, nil, nil, nil, "no resolver to ask: no resolver of up0 is known (again in 2s)"},
		{"a stub", nil, nil, addrs("127.0.0.53"), nil, "no resolver to ask: 127.0.0.53 is on this host and may forward to any network (again in 2s)"},
		{"stubs and IPv4", nil, addrs("::1"), addrs("::1", "192.0.2.1", "::ffff:127.0.0.1"), nil,
			"no resolver to ask: ::1 is on this host and may forward to any network, 192.0.2.1 is an IPv4 address, ::ffff:127.0.0.1 is on this host and may forward to any network (again in 2s)"},
		{"nonsense", addrs("::", "ff02::1"), nil, nil, nil, "no resolver to ask: :: is not a unicast address, ff02::1 is not a unicast address (again in 2s)"},
		{"one that is of use", nil, nil, addrs("127.0.0.53", "2001:db8:53::1"), addrs("2001:db8:53::1"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLookout(t, func(o *Options) { o.Servers = c.configured })
				l.own = c.own
				for _, s := range c.want {
					l.dns.set(s, nil) // silent
				}
				ra := RouterAdvertisement{Router: router1, RouterLifetime: time.Hour}
				if c.advertised != nil {
					ra.RDNSS = []RDNSS{{c.advertised, time.Hour}}
				}
				l.send(ra)
				l.sleep(time.Second)
				if len(c.want) == 0 {
					l.says("router advertisements carry no PREF64; DNS: " + c.says)
				}
				l.sleep(15 * time.Second)
				got := l.dns.take()
				if n := len(c.want); len(got) < n || !slices.Equal(servers(got[:n]), c.want) {
					t.Errorf("asked %v, want %v", got, c.want)
				}
				if got := l.Snapshot().Resolvers; !slices.Equal(got, c.want) {
					t.Errorf("resolvers %v, want %v", got, c.want)
				}
			})
		})
	}
}

func addrs(s ...string) (all []netip.Addr) {
	for _, a := range s {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

// TestDNS shows what follows from answers (RFC 7050 section 3), and from servers
// that do not answer.
func TestDNS(t *testing.T) {
	// asking returns a lookout that has just asked for the first time.
	asking := func(t *testing.T, own []netip.Addr, prepare func(l *lookout)) *lookout {
		l := newLookout(t, nil)
		l.own = own
		prepare(l)
		l.hear(router1, pio1)
		l.sleep(time.Second)
		return l
	}
	one, two := []netip.Addr{server1}, []netip.Addr{server1, server2}
	with := func(server netip.Addr, r reply) func(l *lookout) {
		return func(l *lookout) { l.dns.answers(server, r) }
	}
	scripts{
		{"the first of several", func(t *testing.T) {
			l := asking(t, one, with(server1, reply{ttl: 600, addrs: dns64(prefixC, prefixA)}))
			l.uses(prefixC, DNS, server1)
			if c := l.Snapshot().Candidates; len(c) != 2 || c[1].Prefix != prefixA {
				t.Errorf("candidates %v", c)
			}
		}},
		{"asked again ten seconds early, silently", func(t *testing.T) {
			l := asking(t, one, with(server1, yes))
			l.asks(1)
			l.announced()
			for range 10 {
				l.sleep(590*time.Second - 1)
				l.asks(0)
				l.sleep(1)
				l.asks(1)
				l.uses(prefixB, DNS, server1)
			}
			if l.announced() {
				t.Error("announced")
			}
		}},
		{"a TTL of 0", func(t *testing.T) {
			l := asking(t, one, with(server1, reply{addrs: dns64(prefixB)}))
			l.asks(1)
			l.sleep(10 * time.Minute)
			l.asks(10)
			l.uses(prefixB, DNS, server1)
		}},
		{"a TTL of 68 years", func(t *testing.T) {
			l := asking(t, one, with(server1, reply{ttl: 1<<31 - 1, addrs: dns64(prefixB)}))
			l.asks(1)
			l.sleep(maxTTL - refreshEarly)
			l.asks(1)
		}},
		{"renumbered: the new answer replaces the old", func(t *testing.T) {
			l := asking(t, one, with(server1, yes))
			l.uses(prefixB, DNS, server1)
			l.dns.answers(server1, reply{ttl: 600, addrs: dns64(prefixA)})
			l.sleep(590 * time.Second)
			l.uses(prefixA, DNS, server1)
			if c := l.Snapshot().Candidates; len(c) != 1 {
				t.Errorf("candidates %v", c)
			}
		}},
		{"the one in use is kept, whatever the order", func(t *testing.T) {
			l := asking(t, one, with(server1, reply{ttl: 600, addrs: dns64(prefixB, prefixA)}))
			l.dns.answers(server1, reply{ttl: 600, addrs: dns64(prefixA, prefixB)})
			l.sleep(590 * time.Second)
			l.uses(prefixB, DNS, server1)
		}},
		{"nobody answers at refresh", func(t *testing.T) {
			l := asking(t, one, with(server1, yes))
			l.dns.set(server1, nil)
			l.sleep(10*time.Minute + graceTTL - 1)
			l.uses(prefixB, DNS, server1)
			l.sleep(1)
			l.usesNone()
			l.dns.answers(server1, yes)
			l.sleep(lastRetry)
			l.uses(prefixB, DNS, server1)
		}},
		{"the resolver is restarted at refresh", func(t *testing.T) {
			l := asking(t, one, with(server1, yes))
			l.announced()
			l.dns.set(server1, nil)
			l.sleep(615 * time.Second)
			l.dns.answers(server1, yes)
			l.sleep(10 * time.Minute)
			l.uses(prefixB, DNS, server1)
			// The words change, the prefix does not.
			if strings.Count(l.log.String(), "\n") != 1 {
				t.Errorf("logged:\n%s", &l.log)
			}
		}},
		{"another one knows at refresh", func(t *testing.T) {
			l := asking(t, two, func(l *lookout) {
				l.dns.answers(server1, yes)
				l.dns.answers(server2, yes)
			})
			l.uses(prefixB, DNS, server1)
			l.dns.set(server1, nil)
			l.sleep(595 * time.Second)
			l.uses(prefixB, DNS, server2)
			if o, _ := l.Current(); time.Until(o.Expires) < 10*time.Minute {
				t.Errorf("expires in %v", time.Until(o.Expires))
			}
		}},
		{"a negative answer", func(t *testing.T) {
			l := asking(t, one, with(server1, nay))
			l.asks(1)
			l.says("router advertisements carry no PREF64; DNS: 2001:db8:53::1 says that there is no NAT64 (negative answer, again in 15m0s)")
			l.dns.answers(server1, yes)
			l.sleep(15*time.Minute - 1)
			l.asks(0)
			l.sleep(1)
			l.uses(prefixB, DNS, server1)
		}},
		{"a negative answer for a second", func(t *testing.T) {
			l := asking(t, one, with(server1, reply{soa: true, soaTTL: 1, soaMin: 1}))
			l.sleep(10 * time.Minute)
			l.asks(11)
		}},
		{"a negative answer for years", func(t *testing.T) {
			l := asking(t, one, with(server1, reply{soa: true, soaTTL: 1 << 30, soaMin: 1 << 30}))
			l.sleep(12 * time.Hour)
			l.asks(5)
		}},
		{"a negative answer without a TTL", func(t *testing.T) {
			l := asking(t, one, with(server1, reply{}))
			l.asks(1)
			for _, after := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
				l.sleep(after * time.Second)
				l.asks(1)
			}
			l.dns.answers(server1, yes)
			l.sleep(lastRetry)
			l.uses(prefixB, DNS, server1)
		}},
		{"a negative answer with a TTL of 0", func(t *testing.T) {
			l := asking(t, one, with(server1, reply{soa: true, soaTTL: 3600}))
			l.asks(1)
			l.sleep(firstRecheck)
			l.asks(1)
		}},
		{"a negative answer of one, while the other comes up a little later", func(t *testing.T) {
			for name, not := range map[string]func(l *lookout){
				"silent":  func(l *lookout) { l.dns.set(server2, nil) },
				"fails":   with(server2, reply{rcode: dnsmessage.RCodeServerFailure}),
				"refuses": with(server2, reply{rcode: dnsmessage.RCodeRefused}),
			} {
				l := asking(t, two, func(l *lookout) {
					l.dns.answers(server1, nay)
					not(l)
				})
				l.sleep(20 * time.Second) // the second round
				l.usesNone()
				l.dns.answers(server2, yes)
				l.sleep(2 * firstRecheck)
				if o, _ := l.Current(); o.Prefix != prefixB {
					t.Errorf("%s: uses %v", name, o.Prefix)
				}
			}
		}},
		{"a negative answer of one, while the other never answers", func(t *testing.T) {
			l := asking(t, two, func(l *lookout) {
				l.dns.answers(server1, nay)
				l.dns.set(server2, nil)
			})
			l.sleep(10 * time.Minute)
			l.dns.take()
			l.sleep(time.Hour)
			if n := l.dns.count(); n > 13*3 {
				t.Errorf("%d questions in an hour", n)
			}
		}},
		{"a DNS64 that comes up a little later", func(t *testing.T) {
			l := asking(t, one, with(server1, reply{}))
			l.usesNone()
			l.dns.answers(server1, yes)
			l.sleep(firstRecheck)
			l.uses(prefixB, DNS, server1)
		}},
		{"another network is asked at once after many negative answers", func(t *testing.T) {
			l := asking(t, one, with(server1, reply{}))
			l.sleep(20 * time.Minute)
			l.dns.answers(server1, yes)
			l.Attached()
			l.sleep(silenceBeforeDNS)
			l.uses(prefixB, DNS, server1)
		}},
		{"a captive portal", func(t *testing.T) {
			l := asking(t, one, with(server1, reply{ttl: 86400, addrs: []netip.Addr{server3}}))
			l.usesNone()
			if got, want := l.Snapshot().Discovery, "router advertisements carry no PREF64; DNS: 2001:db8:53::1 returns addresses that no DNS64 made (no-well-known-address, again in "; !strings.HasPrefix(got, want) {
				t.Errorf("says\n%s\nwant\n%s...", got, want)
			}
			l.dns.answers(server1, yes)
			l.sleep(firstRecheck)
			l.uses(prefixB, DNS, server1)
			if n := l.IgnoredTotals()[NoWellKnown]; n != 1 {
				t.Errorf("counted %d times", n)
			}
			if ig := l.Snapshot().Ignored; len(ig) != 1 || ig[0].Router != server1 {
				t.Errorf("ignored %v", ig)
			}
			if !strings.Contains(l.log.String(), "reason=no-well-known-address resolver=2001:db8:53::1") {
				t.Errorf("log:\n%s", &l.log)
			}
		}},
		{"negative at refresh: it is over", func(t *testing.T) {
			l := asking(t, one, with(server1, yes))
			l.dns.answers(server1, nay)
			l.sleep(590 * time.Second)
			l.usesNone()
		}},
		{"negative from another one only: it may be this one's", func(t *testing.T) {
			l := asking(t, two, with(server1, yes))
			l.dns.set(server1, nil)
			l.dns.answers(server2, nay)
			l.sleep(595 * time.Second)
			l.uses(prefixB, DNS, server1)
			l.sleep(graceTTL + 5*time.Second)
			l.usesNone()
		}},
		{"one without and one with DNS64", func(t *testing.T) {
			l := asking(t, two, func(l *lookout) {
				l.dns.answers(server1, nay)
				l.dns.answers(server2, yes)
			})
			l.asks(2)
			l.uses(prefixB, DNS, server2)
		}},
		{"silent, then the next after a second", func(t *testing.T) {
			l := asking(t, two, func(l *lookout) {
				l.dns.set(server1, nil)
				l.dns.answers(server2, yes)
			})
			l.asks(1)
			l.sleep(time.Second)
			l.asks(1)
			l.uses(prefixB, DNS, server2)
		}},
		{"refused, then the next at once", func(t *testing.T) {
			l := asking(t, two, func(l *lookout) {
				l.dns.answers(server1, reply{rcode: dnsmessage.RCodeRefused})
				l.dns.answers(server2, yes)
			})
			l.asks(2)
			l.uses(prefixB, DNS, server2)
		}},
		{"retransmitted", func(t *testing.T) {
			l := asking(t, one, func(l *lookout) {
				n := 0
				l.dns.set(server1, func(_ string, q []byte, send func([]byte) error) {
					if n++; n == 2 {
						send(yes.from(t, q))
					}
				})
			})
			l.asks(1)
			l.sleep(time.Second)
			l.asks(1)
			l.uses(prefixB, DNS, server1)
		}},
		{"nobody ever answers", func(t *testing.T) {
			l := asking(t, two, func(l *lookout) {
				l.dns.set(server1, nil)
				l.dns.answers(server2, reply{rcode: dnsmessage.RCodeServerFailure})
			})
			l.sleep(3 * time.Second)
			l.says("router advertisements carry no PREF64; DNS: 2001:db8:53::1 does not answer, 2001:db8:53::2 answers SERVFAIL (again in 2s)")
			l.sleep(10 * time.Minute)
			l.dns.take()
			l.sleep(time.Hour)
			if n := l.dns.count(); n > 60 {
				t.Errorf("%d questions in an hour", n)
			} else if n < 11*4 {
				t.Errorf("only %d questions in an hour", n)
			}
			if l.log.String() != "" {
				t.Errorf("logged:\n%s", &l.log)
			}
		}},
		{"truncated: asked over TCP", func(t *testing.T) {
			l := asking(t, one, func(l *lookout) {
				l.dns.set(server1, func(network string, q []byte, send func([]byte) error) {
					if network == "udp" {
						send(reply{cut: true}.from(t, q))
						return
					}
					msg := reply{ttl: 600, addrs: dns64(prefixA)}.from(t, q)
					send([]byte{0})
					send([]byte{byte(len(msg))})
					send(msg[:20])
					send(msg[20:])
				})
			})
			if got := l.dns.take(); len(got) != 2 || got[1].network != "tcp" {
				t.Errorf("asked %v", got)
			}
			l.uses(prefixA, DNS, server1)
		}},
		{"native IPv4: not asked", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.Pause(true)
			l.hear(router1, pio1)
			l.sleep(time.Hour)
			l.asks(0)
			l.says("router advertisements carry no PREF64; DNS: not asked, because no answer is needed at present")
			l.Pause(false)
			l.asks(1)
			l.uses(prefixB, DNS, server1)
			l.Pause(true)
			l.sleep(10*time.Minute + graceTTL - 1)
			l.uses(prefixB, DNS, server1)
			l.sleep(1)
			l.usesNone()
			l.asks(0)
			l.Pause(false)
			l.Pause(false)
			l.uses(prefixB, DNS, server1)
			l.asks(1)
		}},
		{"native IPv4 does not keep from hearing routers", func(t *testing.T) {
			l := newLookout(t, nil)
			l.Pause(true)
			l.hear(router1, pio1, prefixA)
			l.uses(prefixA, RA, router1)
			l.says("router advertisements")
		}},
		{"refresh asks again, within limits", func(t *testing.T) {
			l := asking(t, one, with(server1, nay))
			l.asks(1)
			l.dns.answers(server1, yes)
			l.sleep(time.Minute)
			for range 100 {
				l.Refresh()
			}
			l.asks(1)
			l.uses(prefixB, DNS, server1)
			for range 600 {
				l.Refresh()
				l.sleep(100 * time.Millisecond)
			}
			l.asks(30)
			if l.routers.solicits != 700 {
				t.Errorf("%d solicits", l.routers.solicits)
			}
		}},
		{"other resolvers are asked, and no routers", func(t *testing.T) {
			l := asking(t, one, with(server1, nay))
			l.asks(1)
			l.sleep(time.Minute)
			l.own = []netip.Addr{server2}
			l.dns.answers(server2, yes)
			l.ResolversChanged()
			l.sleep(time.Second)
			l.asks(1)
			l.uses(prefixB, DNS, server2)
			if l.routers.solicits != 0 {
				t.Errorf("%d solicits", l.routers.solicits)
			}
		}},
		{"refresh does not ask where a router has told", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixA)
			l.Refresh()
			l.sleep(time.Minute)
			l.asks(0)
		}},
		{"a router names a resolver at last", func(t *testing.T) {
			l := asking(t, nil, with(server1, yes))
			l.usesNone()
			l.sleep(3 * time.Minute)
			l.asks(0)
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, RDNSS: []RDNSS{{one, time.Hour}}})
			l.uses(prefixB, DNS, server1)
		}},
		{"other resolvers during a question", func(t *testing.T) {
			l := asking(t, one, func(l *lookout) {
				l.dns.set(server1, nil)
				l.dns.answers(server2, yes)
			})
			l.sleep(100 * time.Millisecond)
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, RDNSS: []RDNSS{{[]netip.Addr{server2}, time.Hour}}})
			l.sleep(5 * time.Second)
			l.uses(prefixB, DNS, server2)
		}},
	}.run(t)
}

// TestIdle: at rest nothing wakes up but what must.
func TestIdle(t *testing.T) {
	scripts{
		{"with DNS", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, reply{ttl: 3600, addrs: dns64(prefixB)})
			l.hear(router1, pio1)
			l.sleep(time.Second)
			l.asks(1)
			l.announced()
			l.sleep(24 * time.Hour)
			l.asks(24)
			l.uses(prefixB, DNS, server1)
		}},
		{"with static ones", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.Static = []netip.Prefix{prefixC} })
			if l.Tracker.timer.Stop() {
				t.Error("a timer runs")
			}
		}},
	}.run(t)
}

// TestNoWakeUpsAtRest: with a prefix of a router nothing at all happens until it
// is asked, shortly before its router lifetime ends. Whatever wakes up would want the lock, and hang with it.
func TestNoWakeUpsAtRest(t *testing.T) {
	watchdog := time.AfterFunc(2*time.Minute, func() { panic("something woke up where nothing happened") })
	defer watchdog.Stop()
	synctest.Test(t, func(t *testing.T) {
		l := newLookout(t, nil)
		l.hear(router1, pio1, prefixA)
		l.sleep(time.Minute)
		l.Tracker.mu.Lock()
		time.Sleep(29*time.Minute - maxSolicitations*solicitationInterval - 1)
		l.Tracker.mu.Unlock()
		l.uses(prefixA, RA, router1)
		l.sleep(30*time.Minute + maxSolicitations*solicitationInterval)
		l.uses(prefixA, RA, router1)
		l.sleep(1)
		l.usesNone()
	})
}

// TestHostileDNS: what a server or somebody in between may do.
func TestHostileDNS(t *testing.T) {
	wrongID := func(q []byte) []byte {
		return edited(yes.from(t, q), func(b []byte) { b[0]++ })
	}
	for _, c := range []struct {
		name   string
		h      handler
		reason Reason
		found  bool
	}{
		{"wrong id first", func(_ string, q []byte, send func([]byte) error) {
			send(wrongID(q))
			send(yes.from(t, q))
		}, WrongID, true},
		{"wrong question first", func(_ string, q []byte, send func([]byte) error) {
			send(edited(reply{ttl: 60, addrs: dns64(prefixA)}.from(t, q), func(b []byte) { b[13] = 'x' }))
			send(yes.from(t, q))
		}, WrongQuestion, true},
		{"a flood of wrong ids, then the right one", func(_ string, q []byte, send func([]byte) error) {
			for range 3000 {
				send(wrongID(q))
			}
			send(yes.from(t, q))
		}, WrongID, true},
		{"a flood of wrong ids for ever", func(_ string, q []byte, send func([]byte) error) {
			for n := 0; send(wrongID(q)) == nil; n++ {
				if n > 3*floodBurst*int(time.Second/floodPause) {
					t.Error("the flood is read as fast as it comes")
					return
				}
			}
		}, WrongID, false},
		{"only a header", func(_ string, q []byte, send func([]byte) error) { send(q[:12]) }, WrongQuestion, false},
		{"names that lead to themselves", func(_ string, q []byte, send func([]byte) error) {
			send(edited(yes.from(t, q), func(b []byte) { b[questionLen+1] = questionLen }))
		}, MalformedAnswer, false},
		{"oversized", func(_ string, q []byte, send func([]byte) error) {
			send(append(yes.from(t, q), make([]byte, 60000)...))
		}, AnswerTooLong, false},
		{"thousands of records over TCP", overTCPOnly(t, func(q []byte) []byte {
			msg := reply{ttl: 600, addrs: dns64(flood64(290)...)}.from(t, q)
			return append([]byte{byte(len(msg) >> 8), byte(len(msg))}, msg...)
		}), TooManyRecords, true},
		{"more than was announced over TCP", overTCPOnly(t, func(q []byte) []byte {
			msg := yes.from(t, q)
			return append(append([]byte{0, byte(len(msg))}, msg...), 0)
		}), AnswerTooLong, false},
		{"less than was announced over TCP", overTCPOnly(t, func(q []byte) []byte {
			msg := yes.from(t, q)
			return append([]byte{0, byte(len(msg) + 1)}, msg...)
		}), MalformedAnswer, false},
		{"64 KiB announced over TCP", overTCPOnly(t, func(q []byte) []byte { return []byte{0xff, 0xff, 1} }), AnswerTooLong, false},
		{"wrong id over TCP", overTCPOnly(t, func(q []byte) []byte {
			msg := wrongID(q)
			return append([]byte{0, byte(len(msg))}, msg...)
		}), WrongID, false},
		{"truncated over TCP", overTCPOnly(t, func(q []byte) []byte {
			msg := reply{cut: true}.from(t, q)
			return append([]byte{0, byte(len(msg))}, msg...)
		}), MalformedAnswer, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLookout(t, func(o *Options) { o.RA = false })
				l.dns.set(server1, c.h)
				l.Refresh()
				l.sleep(20 * time.Second)
				if _, ok := l.Current(); ok != c.found {
					t.Fatalf("found: %v; %s", ok, l.Snapshot().Discovery)
				}
				if l.IgnoredTotals()[c.reason] == 0 {
					t.Errorf("%v was not counted: %v", c.reason, l.Snapshot().Ignored)
				}
				// Another server helps.
				l.own = []netip.Addr{server1, server2}
				l.dns.answers(server2, yes)
				l.Refresh()
				l.sleep(20 * time.Second)
				if _, ok := l.Current(); !ok {
					t.Errorf("not found; %s", l.Snapshot().Discovery)
				}
				l.sleep(30 * time.Minute)
				if n := strings.Count(l.log.String(), "level=WARN"); n != 1 {
					t.Errorf("%d lines logged:\n%s", n, &l.log)
				}
				if n := len(l.Snapshot().Ignored); n != 1 {
					t.Errorf("ignored %v", l.Snapshot().Ignored)
				}
			})
		})
	}
}

// overTCPOnly truncates over UDP.
func overTCPOnly(t *testing.T, f func(q []byte) []byte) handler {
	return func(network string, q []byte, send func([]byte) error) {
		if network == "udp" {
			send(reply{cut: true}.from(t, q))
			return
		}
		send(f(q))
	}
}

func flood64(n int) (all []netip.Prefix) {
	for i := range n {
		all = append(all, flooded(i))
	}
	return all
}

// TestSilentTCP: a server that takes the connection and says nothing.
func TestSilentTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLookout(t, func(o *Options) { o.RA = false })
		over := make(chan struct{})
		defer close(over)
		l.dns.set(server1, func(network string, q []byte, send func([]byte) error) {
			if network == "udp" {
				send(reply{cut: true}.from(t, q))
				return
			}
			<-over
		})
		l.Refresh()
		l.sleep(2*time.Second + 2*tcpTimeout)
		l.says(fmt.Sprintf("DNS: %v does not answer over TCP (again in 2s)", server1))
	})
}
