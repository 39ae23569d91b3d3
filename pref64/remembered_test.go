package pref64

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// of10Minutes is the prefix of router1, as a process ten minutes before its end
// noted it.
var of10Minutes = Remembered{Prefix: prefixA, Origin: RA, Router: router1, Default: true, Left: 10 * time.Minute, MTU: 1400}

// TestRemembered begins with what a former process had in use on this network.
func TestRemembered(t *testing.T) {
	byDNS := Remembered{Prefix: prefixA, Origin: DNS, Router: server1, Left: 10 * time.Minute}
	scripts{
		{"it is used at once, and its lifetime goes on", func(t *testing.T) {
			l := newLookout(t, nil)
			l.Restore(of10Minutes)
			l.uses(prefixA, RA, router1)
			if !l.announced() || !l.Snapshot().Candidates[0].Remembered || l.Snapshot().MTU != 1400 {
				t.Errorf("%+v", l.Snapshot())
			}
			l.says("router advertisements; 2001:db8:a::/96 is remembered from before the restart or reload and not confirmed yet")
			l.sleep(10*time.Minute - 1)
			l.uses(prefixA, RA, router1)
			l.asks(0)
			l.sleep(1)
			l.usesNone()
		}},
		{"its router confirms it", func(t *testing.T) {
			l := newLookout(t, nil)
			l.Restore(of10Minutes)
			l.sleep(10 * time.Second)
			l.announced()
			l.hear(router1, pio1, prefixA)
			l.uses(prefixA, RA, router1)
			if l.Snapshot().Candidates[0].Remembered || !l.announced() {
				t.Error("still remembered, or nobody is told")
			}
			l.says("router advertisements")
			l.sleep(59 * time.Minute)
			l.uses(prefixA, RA, router1)
			l.asks(0)
		}},
		{"its router says another one", func(t *testing.T) {
			l := newLookout(t, nil)
			l.Restore(of10Minutes)
			l.hear(router1, pio1, prefixB)
			l.uses(prefixB, RA, router1)
			l.sleep(5 * time.Second)
			if n := len(l.Snapshot().Candidates); n != 1 {
				t.Errorf("%d candidates", n)
			}
		}},
		{"its router withdraws it", func(t *testing.T) {
			l := newLookout(t, nil)
			l.Restore(of10Minutes)
			l.send(RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, PREF64: []PREF64{{Prefix: prefixA}}})
			l.usesNone()
		}},
		{"its router says none", func(t *testing.T) {
			l := newLookout(t, func(o *Options) { o.DNS = false })
			l.Restore(of10Minutes)
			l.hear(router1, pio1)
			l.uses(prefixA, RA, router1)
			if l.routers.renewed() == 0 {
				t.Error("the router was not asked")
			}
			l.sleep(confirmWithin - 1)
			l.uses(prefixA, RA, router1)
			l.sleep(1)
			l.usesNone()
			if d := l.Snapshot().Discovery; strings.Contains(d, "did not repeat") {
				t.Error(d)
			}
		}},
		{"its router says it in the second of two advertisements", func(t *testing.T) {
			l := newLookout(t, nil)
			l.Restore(of10Minutes)
			l.hear(router1, pio1)
			l.sleep(100 * time.Millisecond)
			l.hear(router1, pio1, prefixA)
			l.sleep(30 * time.Minute)
			l.uses(prefixA, RA, router1)
		}},
		{"its router says none and DNS another one", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.Restore(of10Minutes)
			l.hear(router1, pio1)
			l.sleep(2 * time.Second)
			l.uses(prefixB, DNS, server1)
		}},
		{"another neighbour says none", func(t *testing.T) {
			l := newLookout(t, nil)
			l.Restore(of10Minutes)
			l.send(RouterAdvertisement{Router: router2})
			l.sleep(9 * time.Minute)
			l.uses(prefixA, RA, router1)
		}},
		{"of DNS: a resolver that is silent", func(t *testing.T) {
			l := newLookout(t, nil)
			l.Restore(byDNS)
			l.uses(prefixA, DNS, server1)
			l.sleep(10*time.Minute - 1)
			l.uses(prefixA, DNS, server1)
			l.sleep(1)
			l.usesNone()
		}},
		{"of DNS: the resolver says another one", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, yes)
			l.Restore(byDNS)
			l.uses(prefixA, DNS, server1)
			l.sleep(silenceBeforeDNS)
			l.uses(prefixB, DNS, server1)
		}},
		{"of DNS: the resolver says that there is none", func(t *testing.T) {
			l := newLookout(t, nil)
			l.dns.answers(server1, nay)
			l.Restore(byDNS)
			l.sleep(silenceBeforeDNS)
			l.usesNone()
		}},
		{"another carrier", func(t *testing.T) {
			l := newLookout(t, nil)
			l.Restore(of10Minutes)
			l.Attached()
			l.uses(prefixA, RA, router1)
			if _, ok := l.Remembered(); ok {
				t.Error("remembered for the next process, on what may be another network")
			}
			l.sleep(confirmWithin)
			l.usesNone()
		}},
		{"discovery was faster", func(t *testing.T) {
			l := newLookout(t, nil)
			l.hear(router1, pio1, prefixB)
			l.Restore(of10Minutes)
			if s := l.Snapshot(); len(s.Candidates) != 1 || s.Candidates[0].Prefix != prefixB {
				t.Errorf("%+v", s.Candidates)
			}
		}},
		{"its source is not used any more", func(t *testing.T) {
			for _, change := range []func(o *Options){
				func(o *Options) { o.RA = false },
				func(o *Options) { o.Static = []netip.Prefix{prefixB} },
			} {
				l := newLookout(t, change)
				l.Restore(of10Minutes)
				if o, _ := l.Current(); o.Prefix == prefixA {
					t.Errorf("%+v", o)
				}
			}
		}},
		{"the host has an address in it", func(t *testing.T) {
			l := newLookout(t, nil)
			l.SetOwn([]netip.Prefix{prefixA})
			l.Restore(of10Minutes)
			l.usesNone()
		}},
	}.run(t)
}

// TestRemember shows what is noted for the next process.
func TestRemember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLookout(t, nil)
		want := func(p netip.Prefix, left time.Duration) {
			t.Helper()
			r, ok := l.Remembered()
			if ok != p.IsValid() || r.Prefix != p || r.Left != left || ok && r.Check() != nil {
				t.Errorf("%+v, %v; want %v for %v", r, ok, p, left)
			}
		}
		want(netip.Prefix{}, 0)
		l.hear(router1, pio1, prefixA)
		want(prefixA, time.Hour)
		l.sleep(20 * time.Minute)
		want(prefixA, 40*time.Minute)
		l.Doubt(prefixA, time.Minute)
		want(netip.Prefix{}, 0)
		l.Doubt(prefixA, 0)
		want(prefixA, 40*time.Minute)
		l.Unreachable(router1)
		want(netip.Prefix{}, 0)

		// What nobody has confirmed is noted again, and does not live longer.
		l = newLookout(t, nil)
		l.Restore(of10Minutes)
		l.sleep(time.Minute)
		want(prefixA, 9*time.Minute)
		l = newLookout(t, func(o *Options) { o.Static = []netip.Prefix{prefixA} })
		want(netip.Prefix{}, 0)
	})
}

// TestRememberedCheck refuses what no router and no resolver can have said.
func TestRememberedCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(r *Remembered)
		ok     bool
	}{
		{"as it is", func(*Remembered) {}, true},
		{"the longest lifetime", func(r *Remembered) { r.Left = maxLifetimeRA }, true},
		{"of DNS", func(r *Remembered) { r.Origin, r.Router, r.Left = DNS, server1, 24*time.Hour }, true},
		{"static", func(r *Remembered) { r.Origin = Static }, false},
		{"another source", func(r *Remembered) { r.Origin = 7 }, false},
		{"too long", func(r *Remembered) { r.Left = maxLifetimeRA + 1 }, false},
		{"too long for DNS", func(r *Remembered) { r.Origin, r.Left = DNS, 24*time.Hour+graceTTL+1 }, false},
		{"over", func(r *Remembered) { r.Left = 0 }, false},
		{"no prefix", func(r *Remembered) { r.Prefix = netip.Prefix{} }, false},
		{"an IPv4 prefix", func(r *Remembered) { r.Prefix = netip.MustParsePrefix("192.0.2.0/32") }, false},
		{"a length that none has", func(r *Remembered) { r.Prefix = netip.MustParsePrefix("2001:db8::/95") }, false},
		{"bits beyond the length", func(r *Remembered) { r.Prefix = netip.MustParsePrefix("2001:db8::1/96") }, false},
		{"multicast", func(r *Remembered) { r.Prefix = netip.MustParsePrefix("ff02::/96") }, false},
		{"no router", func(r *Remembered) { r.Router = netip.Addr{} }, false},
		{"a global router", func(r *Remembered) { r.Router = server1 }, false},
		{"a router with a zone", func(r *Remembered) { r.Router = router1.WithZone("eth0") }, false},
		{"no resolver", func(r *Remembered) { r.Origin, r.Router = DNS, netip.Addr{} }, false},
		{"a small MTU", func(r *Remembered) { r.MTU = 1279 }, false},
		{"a negative MTU", func(r *Remembered) { r.MTU = -1 }, false},
	} {
		r := of10Minutes
		c.change(&r)
		if err := r.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
