package pref64

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	prefixA = netip.MustParsePrefix("2001:db8:a::/96")
	prefixB = netip.MustParsePrefix("2001:db8:b::/96")
	prefixC = netip.MustParsePrefix("64:ff9b::/96")
)

// watch is a Tracker in a test: it counts changes and keeps the log.
type watch struct {
	*Tracker
	t   *testing.T
	log bytes.Buffer
}

func (w *watch) mtu() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.mtu
}

func (w *watch) ignored() []Ignored {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.state.ignored.recent)
}

func newWatch(t *testing.T, static ...netip.Prefix) *watch {
	w := &watch{t: t}
	w.Tracker = NewTracker(static, slog.New(slog.NewTextHandler(&w.log, nil)))
	t.Cleanup(w.Close)
	return w
}

// advertise has router send the prefixes in one RA, with one lifetime.
func (w *watch) advertise(router netip.Addr, lifetime time.Duration, prefixes ...netip.Prefix) {
	ra := RouterAdvertisement{Router: router, RouterLifetime: 30 * time.Minute}
	for _, p := range prefixes {
		ra.PREF64 = append(ra.PREF64, PREF64{Prefix: p, Lifetime: lifetime})
	}
	w.Apply(ra.report(7, time.Now()))
}

// expect checks which prefix is in use, and whether that was announced.
func (w *watch) expect(want netip.Prefix, announced bool) {
	w.t.Helper()
	synctest.Wait()
	o, ok := w.Current()
	if ok != want.IsValid() || o.Prefix != want {
		w.t.Fatalf("in use: %v, want %v", o.Prefix, want)
	}
	select {
	case <-w.Changed():
		if !announced {
			w.t.Fatal("announced a change where there is none")
		}
	default:
		if announced {
			w.t.Fatal("the change was not announced")
		}
	}
}

func (w *watch) expectIgnored(reason Reason, atLeast uint64) {
	w.t.Helper()
	if got := w.IgnoredTotals()[reason]; got < atLeast {
		w.t.Fatalf("%v counted %d times, want at least %d", reason, got, atLeast)
	}
}

var none netip.Prefix

func TestTracker(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"nothing known", func(t *testing.T) {
			w := newWatch(t)
			w.expect(none, false)
			time.Sleep(time.Hour)
			w.expect(none, false)
		}},
		{"the lifetime starts at reception", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, 8*time.Second, prefixA)
			w.expect(prefixA, true)
			time.Sleep(8*time.Second - time.Nanosecond)
			w.expect(prefixA, false)
			time.Sleep(time.Nanosecond)
			w.expect(none, true)
		}},
		{"a refresh extends it silently", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Minute, prefixA)
			w.expect(prefixA, true)
			for range 10 {
				time.Sleep(50 * time.Second)
				w.advertise(router1, time.Minute, prefixA)
				w.expect(prefixA, false)
			}
			if o, _ := w.Current(); time.Until(o.Expires) != time.Minute {
				t.Errorf("expires at %v", o.Expires)
			}
			time.Sleep(time.Minute)
			w.expect(none, true)
		}},
		{"a refresh may shorten it", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Hour, prefixA)
			w.expect(prefixA, true)
			w.advertise(router1, 16*time.Second, prefixA)
			time.Sleep(16 * time.Second)
			w.expect(none, true)
		}},
		{"an RA without the option does not end it", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Hour, prefixA)
			w.expect(prefixA, true)
			w.advertise(router1, 0)
			w.expect(prefixA, false)
		}},
		{"a router lifetime of 0 does not end it", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Hour, prefixA)
			w.expect(prefixA, true)
			w.Apply(Report{RA: &RouterAdvertisement{Router: router1}})
			w.expect(prefixA, false)
		}},
		{"lifetime 0 withdraws at once", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Hour, prefixA)
			w.expect(prefixA, true)
			w.advertise(router1, 0, prefixA)
			w.expect(none, true)
		}},
		{"lifetime 0 withdraws only that prefix", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Hour, prefixA, prefixB)
			w.expect(prefixA, true)
			w.advertise(router1, 0, prefixB)
			w.expect(prefixA, false)
			w.advertise(router1, 0, prefixA)
			w.expect(none, true)
		}},
		{"lifetime 0 withdraws only from that router", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Hour, prefixA)
			w.expect(prefixA, true)
			w.advertise(router2, 0, prefixA)
			w.expect(prefixA, false)
		}},
		{"a prefix of two routers stays when one takes it back", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router2, time.Hour, prefixB)
			w.expect(prefixB, true)
			w.advertise(router1, time.Hour, prefixA)
			w.advertise(router1, time.Hour, prefixB)
			w.advertise(router2, 0, prefixB)
			w.expect(prefixB, false)
			if o, _ := w.Current(); o.Router != router1 {
				t.Errorf("router %v, want the one that is left", o.Router)
			}
		}},
		{"renumbering in one RA is one change", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Hour, prefixA)
			w.expect(prefixA, true)
			w.Apply((&RouterAdvertisement{Router: router1, PREF64: []PREF64{{prefixA, 0}, {prefixB, time.Hour}}}).report(7, time.Now()))
			w.expect(prefixB, true)
		}},
		{"the order of the options decides", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Hour, prefixB, prefixA, prefixC)
			w.expect(prefixB, true)
		}},
		{"the prefix in use is kept while it is valid", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Minute, prefixA)
			w.expect(prefixA, true)
			w.advertise(router1, time.Hour, prefixB, prefixA)
			w.advertise(router2, time.Hour, prefixC)
			w.expect(prefixA, false)
			w.advertise(router1, 0, prefixA)
			w.expect(prefixB, true)
			// The old one comes back, and does not take over.
			w.advertise(router1, time.Hour, prefixA)
			w.expect(prefixB, false)
		}},
		{"the next one takes over when the first expires", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Minute, prefixA)
			w.advertise(router2, time.Hour, prefixB)
			w.expect(prefixA, true)
			time.Sleep(time.Minute)
			w.expect(prefixB, true)
		}},
		{"the same RA heard twice is one change", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Hour, prefixA)
			w.expect(prefixA, true)
			time.Sleep(5 * time.Millisecond)
			w.advertise(router1, time.Hour, prefixA)
			w.expect(prefixA, false)
		}},
		{"an expired observation is dropped", func(t *testing.T) {
			w := newWatch(t)
			w.Apply(Report{Observations: []Observation{{Prefix: prefixA, Origin: RA, Expires: time.Now()}}})
			w.expect(none, false)
		}},
		{"static: the first", func(t *testing.T) {
			w := newWatch(t, prefixB, prefixA)
			w.expect(prefixB, true)
			if o, _ := w.Current(); o.Origin != Static || !o.Expires.IsZero() {
				t.Errorf("got %+v", o)
			}
			time.Sleep(100 * time.Hour)
			w.expect(prefixB, false)
		}},
		{"static before advertised, and not to be withdrawn", func(t *testing.T) {
			w := newWatch(t, prefixA)
			w.expect(prefixA, true)
			w.advertise(router1, time.Hour, prefixB)
			w.advertise(router1, 0, prefixA)
			w.expect(prefixA, false)
		}},
		{"static: the first usable", func(t *testing.T) {
			w := newWatch(t, netip.MustParsePrefix("fe80::/96"), prefixA, prefixB)
			w.expect(prefixA, true)
			w.expectIgnored(BadPrefix, 1)
			w.SetOwn([]netip.Prefix{prefixA})
			w.expect(prefixB, true)
			w.expectIgnored(OwnPrefix, 1)
		}},
		{"static unusable: advertised takes its place, and gives it back", func(t *testing.T) {
			w := newWatch(t, prefixA)
			w.expect(prefixA, true)
			w.SetOwn([]netip.Prefix{prefixA})
			w.expect(none, true)
			w.advertise(router1, time.Hour, prefixB)
			w.expect(prefixB, true)
			w.SetOwn(nil)
			w.expect(prefixA, true)
		}},
		{"MTU option", func(t *testing.T) {
			w := newWatch(t)
			w.Apply(Report{RA: &RouterAdvertisement{Router: router1, MTU: 1400}})
			w.expect(none, true)
			w.Apply(Report{RA: &RouterAdvertisement{Router: router1, MTU: 1400}})
			w.Apply(Report{RA: &RouterAdvertisement{Router: router1}})
			w.expect(none, false)
			if w.mtu() != 1400 {
				t.Errorf("MTU %d", w.mtu())
			}
		}},
		{"MTU option that changes with every advertisement", func(t *testing.T) {
			w := newWatch(t)
			for i := range 60 {
				w.Apply(Report{RA: &RouterAdvertisement{Router: router1, MTU: 1400 + i%2}})
				w.expect(none, i < newsBurst || i%10 == 0)
				time.Sleep(newsInterval / 10)
			}
		}},
		{"another network", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Hour, prefixA)
			w.Apply(Report{RA: &RouterAdvertisement{Router: router1, MTU: 1400}})
			w.expect(prefixA, true)
			w.event((*state).attach)
			time.Sleep(confirmWithin)
			w.expect(none, true)
			if w.mtu() != 0 {
				t.Errorf("MTU %d", w.mtu())
			}
			w.advertise(router1, time.Hour, prefixB)
			w.expect(prefixB, true)
		}},
		{"a link that comes and goes is not the network's flapping", func(t *testing.T) {
			w := newWatch(t)
			for range 3 * flapBurst {
				w.advertise(router1, time.Hour, prefixA)
				w.expect(prefixA, true)
				w.event((*state).attach)
				time.Sleep(confirmWithin)
				w.expect(none, true)
			}
		}},
		{"closed", func(t *testing.T) {
			w := newWatch(t)
			w.advertise(router1, time.Minute, prefixA)
			w.expect(prefixA, true)
			w.Close()
			time.Sleep(time.Hour)
			w.advertise(router1, time.Minute, prefixB)
			w.SetOwn([]netip.Prefix{prefixA})
			w.event((*state).attach)
			w.expect(prefixA, false)
		}},
	} {
		t.Run(c.name, func(t *testing.T) { synctest.Test(t, c.run) })
	}
}

// TestOwnPrefix: a PREF64 that overlaps what the link itself uses.
func TestOwnPrefix(t *testing.T) {
	for _, c := range []struct{ name, pref64, own string }{
		{"equal", "2001:db8:1:2::/64", "2001:db8:1:2::/64"},
		{"contains it", "2001:db8::/32", "2001:db8:1:2::/64"},
		{"lies in it", "2001:db8:1:2:64::/96", "2001:db8:1:2::/64"},
		{"contains the CLAT address", "2001:db8:1:2:3:4::/96", "2001:db8:1:2:3:4:0:c1a7/128"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, own := netip.MustParsePrefix(c.pref64), netip.MustParsePrefix(c.own)

				// The link's prefixes are known first.
				w := newWatch(t)
				w.SetOwn([]netip.Prefix{own})
				w.advertise(router1, time.Hour, p)
				w.expect(none, false)
				w.expectIgnored(OwnPrefix, 1)
				ig := w.ignored()
				if len(ig) != 1 || ig[0].Prefix != p || ig[0].Router != router1 || ig[0].Count != 1 {
					t.Errorf("ignored %+v", ig)
				}
				// The link is renumbered; PREF64 is judged again.
				w.SetOwn([]netip.Prefix{netip.MustParsePrefix("3fff::/64")})
				w.expect(p, true)
				w.SetOwn([]netip.Prefix{own})
				w.expect(none, true)

				// PREF64 is known first.
				w = newWatch(t)
				w.advertise(router1, time.Hour, p)
				w.expect(p, true)
				w.SetOwn([]netip.Prefix{own})
				w.expect(none, true)
				w.expectIgnored(OwnPrefix, 1)

				// Another prefix is used instead.
				w.advertise(router1, time.Hour, p, prefixC)
				w.expect(prefixC, true)
			})
		})
	}
}

// TestOwnPrefixInSameRA: the RA that brings the link's prefix brings the bad
// PREF64 too, before the host can have an address. The kernel's report of the
// same RA, which does not know the other options, changes nothing.
func TestOwnPrefixInSameRA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		own := netip.MustParsePrefix("2001:db8:1:2::/64")
		ra := RouterAdvertisement{Router: router1,
			Prefixes: []PrefixInfo{{Prefix: own, Autonomous: true, Valid: time.Hour}},
			PREF64:   []PREF64{{own, time.Hour}}}
		r := ra.report(7, time.Now())
		for range 2 {
			w.Apply(r)
			w.expect(none, false)
			w.Apply(Report{Observations: r.Observations})
			w.expect(none, false)
			w.SetOwn([]netip.Prefix{netip.MustParsePrefix("3fff::/64")})
			w.expect(none, false)
		}
		w.expectIgnored(OwnPrefix, 4)

		ra.Prefixes[0].Valid = 0
		w.Apply(ra.report(7, time.Now()))
		w.expect(own, true)
	})
}

// TestFlood: 200 different prefixes neither disturb the one in use, nor lock
// out another router, nor grow memory, nor fill the log.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		w.advertise(router1, time.Hour, prefixA)
		w.expect(prefixA, true)
		for i := range 200 {
			w.advertise(router1, 65528*time.Second, flooded(i))
		}
		for i := range 2000 {
			from := netip.MustParseAddr(fmt.Sprintf("fe80::bad:%x", i%50))
			w.advertise(from, 65528*time.Second, flooded(200+i))
		}
		w.expect(prefixA, false)
		w.expectIgnored(TooMany, 2200-2*maxPrefixes)
		if n := len(w.state.prefixes); n != maxPrefixes {
			t.Errorf("%d prefixes remembered, want %d", n, maxPrefixes)
		}
		if n := len(w.ignored()); n != maxRecent {
			t.Errorf("%d ignored things remembered, want %d", n, maxRecent)
		}
		if n := strings.Count(w.log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d lines logged:\n%s", n, &w.log)
		}
		// A refresh of a known prefix still gets through.
		time.Sleep(30 * time.Minute)
		w.advertise(router1, time.Hour, prefixA)
		time.Sleep(45 * time.Minute)
		w.expect(prefixA, false)
	})
}

func flooded(i int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("2001:db8:f:%x::/96", i))
}

// TestFloodFromOneRouter leaves room for others.
func TestFloodFromOneRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		for i := range 200 {
			w.advertise(router1, 8*time.Second, flooded(i))
		}
		w.expect(flooded(0), true)
		w.advertise(router2, time.Hour, prefixA)
		time.Sleep(8 * time.Second)
		w.expect(prefixA, true)
	})
}

// TestFlapping: whatever routers do with lifetimes and withdrawals, the prefix
// in use changes only so often, and settles as soon as it can.
func TestFlapping(t *testing.T) {
	for _, c := range []struct {
		name string
		step func(w *watch, i int)
	}{
		{"prefixes with lifetime 1, one after the other", func(w *watch, i int) {
			w.advertise(router1, 8*time.Second, flooded(i))
			time.Sleep(8 * time.Second)
		}},
		{"a prefix that expires before its refresh", func(w *watch, i int) {
			w.advertise(router1, 8*time.Second, prefixA)
			time.Sleep(10 * time.Second)
		}},
		{"withdrawn and advertised again", func(w *watch, i int) {
			w.advertise(router1, time.Hour, prefixA)
			time.Sleep(50 * time.Millisecond)
			w.advertise(router1, 0, prefixA)
			time.Sleep(50 * time.Millisecond)
		}},
		{"renumbered all the time", func(w *watch, i int) {
			w.Apply((&RouterAdvertisement{Router: router1, PREF64: []PREF64{
				{flooded(i), time.Hour}, {flooded(i - 1), 0}}}).report(7, time.Now()))
			time.Sleep(100 * time.Millisecond)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatch(t)
				start := time.Now()
				adopted, was := 0, none
				done := make(chan struct{})
				go func() {
					defer close(done)
					for i := 1; i <= 200; i++ {
						c.step(w, i)
					}
				}()
				for {
					select {
					case <-w.Changed():
						if o, _ := w.Current(); o.Prefix != was {
							was = o.Prefix
							if was != none {
								adopted++
							}
						}
						continue
					case <-done:
					}
					break
				}
				limit := flapBurst + int(time.Since(start)/flapInterval)
				if adopted < flapBurst || adopted > limit {
					t.Errorf("%d prefixes adopted in %v, want %d to %d", adopted, time.Since(start), flapBurst, limit)
				}
				w.expectIgnored(Flapping, 1)
				if n := strings.Count(w.log.String(), "level=WARN"); n > 1 {
					t.Errorf("%d lines logged:\n%s", n, &w.log)
				}

				// The network settles.
				w.advertise(router1, 18*time.Hour, prefixB)
				for i := range 201 {
					w.advertise(router1, 0, flooded(i), prefixA)
				}
				time.Sleep(flapInterval)
				synctest.Wait()
				if o, _ := w.Current(); o.Prefix != prefixB {
					t.Errorf("in use %v, want %v", o.Prefix, prefixB)
				}
			})
		})
	}
}

// TestForgedAdvertisementsUseUpNoLimit: a station that forges advertisements of the
// router, or of routers of its own, cannot keep the host from the network's prefix
// afterwards.
func TestForgedAdvertisementsUseUpNoLimit(t *testing.T) {
	for _, c := range []struct {
		name   string
		proven time.Duration // how long the network's prefix is in use before
		forge  func(w *watch, i int)
		end    func(w *watch) // of the forged prefixes
	}{
		{"the router withdraws", provenAfter + time.Second, func(w *watch, i int) {
			w.advertise(router1, 0, prefixA)
			time.Sleep(100 * time.Millisecond)
			w.advertise(router1, time.Hour, prefixA) // the router answers
			time.Sleep(5 * time.Second)
		}, func(w *watch) { w.advertise(router1, 0, prefixA) }},
		{"the router has other prefixes", provenAfter + time.Second, func(w *watch, i int) {
			w.Apply((&RouterAdvertisement{Router: router1, RouterLifetime: time.Hour, PREF64: []PREF64{
				{prefixA, 0}, {flooded(i - 1), 0}, {flooded(i), time.Hour}}}).report(7, time.Now()))
			time.Sleep(100 * time.Millisecond)
		}, func(w *watch) { w.advertise(router1, 0, flooded(20)) }},
		{"other routers", 0, func(w *watch, i int) {
			w.advertise(router1, 0, prefixA)
			w.advertise(router2, 0, flooded(i-1))
			w.advertise(router2, time.Hour, flooded(i))
			time.Sleep(100 * time.Millisecond)
		}, func(w *watch) { w.advertise(router2, 0, flooded(20)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatch(t)
				w.advertise(router1, time.Hour, prefixA)
				time.Sleep(c.proven)
				w.expect(prefixA, true)
				for i := 1; i <= 20; i++ {
					c.forge(w, i)
				}
				c.end(w)
				synctest.Wait()
				w.advertise(router1, time.Hour, prefixA)
				time.Sleep(returnInterval)
				synctest.Wait()
				if o, _ := w.Current(); o.Prefix != prefixA {
					t.Errorf("in use %v, want %v", o.Prefix, prefixA)
				}
			})
		})
	}
}

// TestIgnoredReports: what a Source refuses is counted and shown.
func TestIgnoredReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		for range 3 {
			w.Apply(Report{Ignored: []Ignored{{Reason: HopLimit, Router: router1}}})
			time.Sleep(time.Second)
		}
		w.Apply(Report{Ignored: []Ignored{{Reason: BadPLC, Router: router2}}})
		got := w.ignored()
		want := []Ignored{
			{Reason: HopLimit, Router: router1, Count: 3, Last: time.Now().Add(-time.Second)},
			{Reason: BadPLC, Router: router2, Count: 1, Last: time.Now()},
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if n := strings.Count(w.log.String(), "\n"); n != 2 {
			t.Errorf("%d lines logged:\n%s", n, &w.log)
		}
		if !strings.Contains(w.log.String(), "reason=hop-limit router=fe80::1") {
			t.Errorf("log:\n%s", &w.log)
		}
		// An hour later it is still going on.
		time.Sleep(logEvery)
		w.Apply(Report{Ignored: []Ignored{{Reason: HopLimit, Router: router1}}})
		if n := strings.Count(w.log.String(), "\n"); n != 3 {
			t.Errorf("%d lines logged:\n%s", n, &w.log)
		}
	})
}
