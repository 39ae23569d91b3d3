package advertise

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/ndp"
)

// memory is a Store in memory.
type memory map[netip.Prefix]time.Time

func (m memory) Load() (map[netip.Prefix]time.Time, error) { return maps.Clone(m), nil }

func (m memory) Save(all map[netip.Prefix]time.Time) error {
	clear(m)
	maps.Copy(m, all)
	return nil
}

// lifetimes returns preferred and valid lifetimes by prefix.
func lifetimes(m *ndp.RouterAdvertisement) map[string]string {
	all := map[string]string{}
	for _, o := range m.Options {
		if p, ok := o.(*ndp.PrefixInformation); ok {
			all[fmt.Sprintf("%s/%d", p.Prefix, p.PrefixLength)] = fmt.Sprintf("%v, %v, %v %v", p.PreferredLifetime, p.ValidLifetime, p.OnLink, p.AutonomousAddressConfiguration)
		}
	}
	return all
}

const present, gone = "45m0s, 1h30m0s, true true", "0s, 0s, true true"

// A prefix that was advertised before a restart and is no longer configured has
// lifetimes of 0 for as long as hosts may use it (RFC 9096 section 3.5).
func TestStalePrefixes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory{}
		l := &fakeLink{state: testState, in: make(chan received)}
		run := func(prefix string, d time.Duration) (last *ndp.RouterAdvertisement) {
			var said bytes.Buffer
			p := Parameters{Lifetime: 30 * time.Minute, Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}
			a := New("lan0", l, p, store, slog.New(slog.NewTextHandler(&said, nil)))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { a.Run(ctx); close(done) }()
			time.Sleep(d)
			synctest.Wait()
			last = l.sent[len(l.sent)-1].m
			cancel()
			<-done
			if said.Len() > 0 {
				t.Error(said.String())
			}
			return last
		}
		const a, b, c = "2001:db8:a::/64", "2001:db8:b::/64", "2001:db8:c::/64"
		check := func(when string, m *ndp.RouterAdvertisement, want map[string]string) {
			t.Helper()
			if got := lifetimes(m); !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		check("at first", run(a, 2*time.Hour), map[string]string{a: present})
		check("another prefix", run(b, time.Minute), map[string]string{a: gone, b: present})
		check("another restart", run(b, time.Minute), map[string]string{a: gone, b: present})
		check("and a third prefix", run(c, time.Minute), map[string]string{a: gone, b: gone, c: present})
		check("the first again", run(a, time.Minute), map[string]string{a: present, b: gone, c: gone})
		check("when no host can use them any more", run(a, 3*time.Hour), map[string]string{a: present})
	})
}

// A stale prefix that another router has taken over is left to it, also after a
// restart; one that the other withdraws as well stays stale.
func TestStalePrefixOfAnotherRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken, withdrawn, own := netip.MustParsePrefix("2001:db8:a::/64"), netip.MustParsePrefix("2001:db8:b::/64"), netip.MustParsePrefix("2001:db8:c::/64")
		store := memory{taken: time.Now(), withdrawn: time.Now()}
		l := &fakeLink{state: testState, in: make(chan received)}
		run := func(theirs ...received) *ndp.RouterAdvertisement {
			p := Parameters{Lifetime: 30 * time.Minute, Prefixes: []netip.Prefix{own}}
			a := New("lan0", l, p, store, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { a.Run(ctx); close(done) }()
			time.Sleep(time.Minute)
			for _, r := range theirs {
				l.in <- r
			}
			time.Sleep(time.Minute)
			cancel()
			<-done
			return l.sent[len(l.sent)-1].m
		}
		if got := lifetimes(run()); len(got) != 3 {
			t.Fatalf("before the other router speaks: %v", got)
		}
		other := &ndp.RouterAdvertisement{RouterLifetime: time.Hour, Options: []ndp.Option{
			&ndp.PrefixInformation{Prefix: taken.Addr(), PrefixLength: 64, OnLink: true, AutonomousAddressConfiguration: true, PreferredLifetime: time.Minute, ValidLifetime: time.Hour},
			&ndp.PrefixInformation{Prefix: withdrawn.Addr(), PrefixLength: 64, OnLink: true, AutonomousAddressConfiguration: true},
		}}
		want := map[string]string{withdrawn.String(): gone, own.String(): present}
		for _, m := range []*ndp.RouterAdvertisement{run(received{other, netip.MustParseAddr("fe80::2")}), run()} {
			if got := lifetimes(m); !maps.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		}
	})
}

// A stale prefix is left to another router at once: the answer to a host that has
// heard both must not take its address.
func TestStalePrefixIsLeftAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := netip.MustParsePrefix("2001:db8:a::/64")
		l := &fakeLink{state: testState, in: make(chan received)}
		a := New("lan0", l, Parameters{Lifetime: 30 * time.Minute}, memory{taken: time.Now()}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { a.Run(ctx); close(done) }()
		time.Sleep(61 * time.Second) // the link is looked at every 5 seconds
		synctest.Wait()
		before := len(l.sent)
		l.in <- received{&ndp.RouterAdvertisement{Options: []ndp.Option{
			&ndp.PrefixInformation{Prefix: taken.Addr(), PrefixLength: 64, OnLink: true, AutonomousAddressConfiguration: true, PreferredLifetime: time.Minute, ValidLifetime: time.Hour},
		}}, netip.MustParseAddr("fe80::2")}
		l.in <- received{&ndp.RouterSolicitation{}, netip.MustParseAddr("fe80::3")}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(l.sent) != before+1 {
			t.Fatalf("%d advertisements, want 1", len(l.sent)-before)
		}
		if all := lifetimes(l.sent[before].m); all[taken.String()] != "" {
			t.Errorf("it says %v", all)
		}
		cancel()
		<-done
	})
}

// A prefix that leaves the link while the advertiser runs is stale too.
func TestPrefixLeavesLink(t *testing.T) {
	advertising(t, func(t *testing.T, l *fakeLink, _ *Advertiser, _ func(), _ *bytes.Buffer) {
		time.Sleep(time.Minute)
		l.set(func() {
			l.state.Addresses = []netip.Prefix{netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("2001:db8:b::1/64")}
		})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		want := map[string]string{"2001:db8:1::/64": gone, "2001:db8:b::/64": present}
		if got := lifetimes(l.sent[len(l.sent)-1].m); !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

// What is remembered is bounded, whatever the store has.
func TestStaleIsBounded(t *testing.T) {
	var h history
	now := time.Unix(1764324000, 0)
	all := map[netip.Prefix]time.Time{}
	for i := range 1000 {
		all[netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 6: byte(i >> 8), 7: byte(i)}), 64)] = now.Add(time.Duration(i) * time.Millisecond)
	}
	h.restore(all, now)
	if n := len(h.stale(nil, now)); n != maxStale {
		t.Errorf("%d stale prefixes", n)
	}
	h.advertised([]netip.Prefix{netip.MustParsePrefix("2001:db8::/64")}, now)
	if n := len(h.last); n != maxStale+1 {
		t.Errorf("%d prefixes", n)
	}
}
