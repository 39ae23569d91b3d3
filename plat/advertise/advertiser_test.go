package advertise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/ndp"
)

// fakeLink is a link in memory.
type fakeLink struct {
	mu       sync.Mutex
	state    State
	stateErr error
	sendErr  error
	in       chan received
	sent     []sending
	opened   int
}

type sending struct {
	at time.Time
	m  *ndp.RouterAdvertisement
}

type fakeConn struct {
	l      *fakeLink
	closed chan struct{}
}

func (l *fakeLink) State() (State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.stateErr
}

// set changes the link.
func (l *fakeLink) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *fakeLink) Open() (Conn, error) {
	l.opened++
	return &fakeConn{l, make(chan struct{})}, nil
}

func (c *fakeConn) Send(m *ndp.RouterAdvertisement) error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if c.l.sendErr != nil {
		return c.l.sendErr
	}
	c.l.sent = append(c.l.sent, sending{time.Now(), m})
	return nil
}

func (c *fakeConn) Receive() (ndp.Message, netip.Addr, error) {
	select {
	case r := <-c.l.in:
		return r.m, r.from, nil
	case <-c.closed:
		return nil, netip.Addr{}, net.ErrClosed
	}
}

func (c *fakeConn) Close() error {
	close(c.closed)
	return nil
}

// advertising runs an advertiser in a bubble and stops it at the end.
func advertising(t *testing.T, test func(t *testing.T, l *fakeLink, a *Advertiser, stop func(), said *bytes.Buffer)) {
	synctest.Test(t, func(t *testing.T) {
		l := &fakeLink{state: testState, in: make(chan received)}
		var said bytes.Buffer
		a := New("lan0", l, Parameters{Lifetime: 30 * time.Minute, PREF64: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96")}}, nil, slog.New(slog.NewTextHandler(&said, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			a.Run(ctx)
		}()
		stop := func() {
			cancel()
			<-done
		}
		defer stop()
		synctest.Wait()
		test(t, l, a, stop, &said)
	})
}

func TestAdvertiserBeginsWithABurst(t *testing.T) {
	advertising(t, func(t *testing.T, l *fakeLink, a *Advertiser, stop func(), _ *bytes.Buffer) {
		begin := time.Now()
		time.Sleep(4 * time.Hour)
		synctest.Wait()
		var gaps []time.Duration
		at := begin
		for _, s := range l.sent {
			gaps = append(gaps, s.at.Sub(at))
			at = s.at
		}
		if len(gaps) < 10 || gaps[0] != 0 {
			t.Fatalf("gaps %v", gaps)
		}
		// RFC 4861 section 6.2.4: the first three within 16 seconds each.
		for _, g := range gaps[1:maxInitial] {
			if g > maxInitialInterval {
				t.Errorf("an initial gap of %v", g)
			}
		}
		for _, g := range gaps[maxInitial:] {
			if g < 200*time.Second || g > 600*time.Second {
				t.Errorf("a gap of %v", g)
			}
		}
		if c := a.Counters(); c.Sent != uint64(len(l.sent)) || a.Name() != "lan0" {
			t.Errorf("counters %+v for %d", c, len(l.sent))
		}
		stop()
		last := l.sent[len(l.sent)-1].m
		if last.RouterLifetime != 0 {
			t.Errorf("the last one has the router lifetime %v", last.RouterLifetime)
		}
	})
}

// Where another advertiser takes over, hosts keep their default route.
func TestSuccessorOnTheLink(t *testing.T) {
	for links, want := range map[string]time.Duration{"lan0": 30 * time.Minute, "lan1": 0} {
		t.Run(links, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &fakeLink{state: testState, in: make(chan received)}
				a := New("lan0", l, Parameters{Lifetime: 30 * time.Minute}, nil, slog.New(slog.DiscardHandler))
				ctx, cancel := context.WithCancelCause(t.Context())
				go func() {
					time.Sleep(time.Second)
					cancel(&Successor{Links: []string{links}})
				}()
				a.Run(ctx)
				if got := l.sent[len(l.sent)-1].m.RouterLifetime; got != want {
					t.Errorf("the last router lifetime is %v, want %v", got, want)
				}
			})
		})
	}
}

// An advertiser that ends before it has begun withdraws what its predecessor has
// advertised, and so does one whose link does not work at the end.
func TestWithdrawalWithoutSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &fakeLink{state: testState, in: make(chan received)}
		a := New("lan0", l, Parameters{Lifetime: 30 * time.Minute}, nil, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		a.Run(ctx)
		if len(l.sent) != 1 || l.sent[0].m.RouterLifetime != 0 {
			t.Errorf("sent is %v, want one advertisement with lifetime 0", l.sent)
		}
	})
}

func TestSolicitationsAreAnswered(t *testing.T) {
	advertising(t, func(t *testing.T, l *fakeLink, a *Advertiser, _ func(), _ *bytes.Buffer) {
		time.Sleep(time.Minute) // the burst is over
		synctest.Wait()
		n := len(l.sent)
		begin := time.Now()
		l.in <- received{&ndp.RouterSolicitation{}, netip.MustParseAddr("fe80::5")}
		time.Sleep(maxAnswerDelay)
		synctest.Wait()
		if len(l.sent) != n+1 || l.sent[n].at.Sub(begin) > maxAnswerDelay {
			t.Fatalf("%d answers", len(l.sent)-n)
		}
		// A flood of a minute: one in 3 seconds at most, and it goes on.
		for range 1200 {
			l.in <- received{&ndp.RouterSolicitation{}, netip.MustParseAddr("fe80::666")}
			time.Sleep(50 * time.Millisecond)
		}
		synctest.Wait()
		flood := l.sent[n:]
		for i := range flood[1:] {
			if gap := flood[i+1].at.Sub(flood[i].at); gap < minDelay || gap > minDelay+maxAnswerDelay {
				t.Errorf("a gap of %v", gap)
			}
		}
		if len(flood) < 15 {
			t.Errorf("%d answers in a minute", len(flood))
		}
		if c := a.Counters(); c.Solicitations != 1201 {
			t.Errorf("%+v", c)
		}
	})
}

func TestChangesOfTheLinkAreAnnounced(t *testing.T) {
	advertising(t, func(t *testing.T, l *fakeLink, _ *Advertiser, _ func(), _ *bytes.Buffer) {
		time.Sleep(time.Minute)
		synctest.Wait()
		n := len(l.sent)
		l.set(func() { l.state.MTU = 1400 })
		time.Sleep(stateInterval + maxAnswerDelay)
		synctest.Wait()
		if len(l.sent) != n+1 || contentOf(l.sent[n].m).mtu != 1400 {
			t.Errorf("%d announcements, %+v", len(l.sent)-n, contentOf(l.sent[len(l.sent)-1].m))
		}
	})
}

func TestLinkThatGoesAndComesBack(t *testing.T) {
	advertising(t, func(t *testing.T, l *fakeLink, a *Advertiser, _ func(), said *bytes.Buffer) {
		time.Sleep(time.Minute)
		synctest.Wait()
		l.set(func() { l.stateErr = errors.New("there is no interface lan0") })
		time.Sleep(time.Minute)
		synctest.Wait()
		n := len(l.sent)
		if lines := strings.Count(said.String(), "\n"); lines != 1 || !strings.Contains(said.String(), "there is no interface lan0") {
			t.Errorf("the log has %d lines: %s", lines, said)
		}
		l.set(func() { l.stateErr = nil })
		time.Sleep(retryInterval)
		synctest.Wait()
		if len(l.sent) != n+1 {
			t.Errorf("%d advertisements after it came back", len(l.sent)-n)
		}
		l.set(func() { l.sendErr = errors.New("network is unreachable") })
		time.Sleep(time.Hour)
		synctest.Wait()
		if a.Counters().Failed == 0 {
			t.Error("failures are not counted")
		}
		l.set(func() { l.sendErr = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(l.sent) <= n+1 {
			t.Error("it gave up")
		}
	})
}

func TestOtherRoutersAreLogged(t *testing.T) {
	advertising(t, func(t *testing.T, l *fakeLink, a *Advertiser, _ func(), said *bytes.Buffer) {
		agrees := Message(Parameters{Lifetime: time.Hour, PREF64: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96")}}, testState, false)
		agrees.Options = slices.DeleteFunc(agrees.Options, func(o ndp.Option) bool { _, is := o.(*ndp.PrefixInformation); return is })
		l.in <- received{agrees, netip.MustParseAddr("fe80::2")}
		synctest.Wait()
		if said.Len() > 0 {
			t.Errorf("one that agrees: %s", said)
		}
		other := Message(Parameters{Lifetime: time.Hour, MTU: 1280, PREF64: []netip.Prefix{netip.MustParsePrefix("2001:db8:64::/96")}}, testState, false)
		other.ManagedConfiguration = true
		for range 100 {
			l.in <- received{other, netip.MustParseAddr("fe80::3")}
			synctest.Wait()
		}
		for _, want := range []string{
			"its MTU is 1280, ours 1500", "its PREF64 is 2001:db8:64::/96, ours 64:ff9b::/96", "its M flag is true, ours false", "router=fe80::3 ",
		} {
			if !strings.Contains(said.String(), want) {
				t.Errorf("%q is missing in %s", want, said)
			}
		}
		lines := strings.Count(said.String(), "\n")
		if lines > 4 {
			t.Errorf("%d lines: %s", lines, said)
		}
		// Forged ones of many routers do not fill the log, and it goes on.
		n := len(l.sent)
		for i := range 2000 {
			forged := *other
			forged.CurrentHopLimit = uint8(1 + i%200)
			l.in <- received{&forged, netip.AddrFrom16([16]byte{0xfe, 0x80, 14: byte(i >> 8), 15: byte(i)})}
			time.Sleep(500 * time.Millisecond)
		}
		synctest.Wait()
		if all := strings.Count(said.String(), "\n"); all > 114 {
			t.Errorf("%d lines in 1000 seconds", all)
		}
		if len(l.sent) == n {
			t.Error("it is silent")
		}
		if c := a.Counters(); c.Others != 2101 || c.Disagreements != 2100 {
			t.Errorf("%+v", c)
		}
	})
}

func TestDisagreements(t *testing.T) {
	base := func() *ndp.RouterAdvertisement {
		return Message(Parameters{Lifetime: time.Hour, PREF64: []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96")}}, testState, false)
	}
	for _, tc := range []struct {
		name string
		edit func(*ndp.RouterAdvertisement)
		want string
	}{
		{"none", func(m *ndp.RouterAdvertisement) {}, ""},
		{"unspecified values", func(m *ndp.RouterAdvertisement) { m.CurrentHopLimit, m.Options = 0, nil }, ""},
		{"another router lifetime", func(m *ndp.RouterAdvertisement) { m.RouterLifetime = 0 }, ""},
		{"hop limit", func(m *ndp.RouterAdvertisement) { m.CurrentHopLimit = 255 }, "its hop limit is 255, ours 64"},
		{"M flag", func(m *ndp.RouterAdvertisement) { m.ManagedConfiguration = true }, "its M flag is true, ours false"},
		{"O flag", func(m *ndp.RouterAdvertisement) { m.OtherConfiguration = true }, "its O flag is true, ours false"},
		{"a prefix that is withdrawn", func(m *ndp.RouterAdvertisement) {
			for _, o := range m.Options {
				if p, ok := o.(*ndp.PrefixInformation); ok {
					p.PreferredLifetime = 0
				}
			}
		}, "its lifetimes of 2001:db8:1::/64 (preferred, valid) is 0s, 1h30m0s, ours 45m0s, 1h30m0s"},
		{"a PREF64 that is withdrawn", func(m *ndp.RouterAdvertisement) {
			m.Options = []ndp.Option{&ndp.PREF64{Prefix: netip.MustParsePrefix("2001:db8:9::/96")}}
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			theirs := base()
			tc.edit(theirs)
			if got := strings.Join(disagreements(base(), theirs), "; "); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestInterval(t *testing.T) {
	for lifetime, want := range map[time.Duration]time.Duration{
		24 * time.Second: 8 * time.Second, time.Minute: 20 * time.Second, 30 * time.Minute: 600 * time.Second, 18 * time.Hour: 600 * time.Second,
	} {
		if got := interval(lifetime); got != want {
			t.Errorf("%v: %v, want %v", lifetime, got, want)
		}
	}
}

// Whatever comes when, multicast advertisements are at least 3 seconds apart
// once the first one is out, and never later than the interval.
func TestScheduleKeepsItsBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := schedule{interval: 60 * time.Second, random: func(n time.Duration) time.Duration { return time.Duration(r.Int64N(int64(n))) }}
	now := time.Unix(0, 0)
	s.begin(now)
	s.done(now)
	last := now
	for range 10000 {
		if r.IntN(3) == 0 {
			s.solicited(now)
		}
		now = now.Add(time.Duration(r.Int64N(int64(2 * time.Second))))
		if now.Before(s.next) {
			continue
		}
		if gap := s.next.Sub(last); gap < minDelay || gap > s.interval {
			t.Fatal(fmt.Sprint("a gap of ", gap))
		}
		last = now
		s.done(now)
	}
}

// A router that shares its address with another one advertises while it has it,
// and is silent without it: a last advertisement would take the active one's hosts.
func TestStandby(t *testing.T) {
	advertising(t, func(t *testing.T, l *fakeLink, a *Advertiser, stop func(), said *bytes.Buffer) {
		standby := func() { l.stateErr = fmt.Errorf("%w: lan0 does not have fe80::64", ErrStandby) }
		l.set(standby)
		time.Sleep(stateInterval + time.Second)
		sent := len(l.sent)
		if sent == 0 {
			t.Fatal("the active router does not advertise")
		}
		time.Sleep(time.Hour)
		if len(l.sent) != sent {
			t.Errorf("the standby has sent %d advertisements", len(l.sent)-sent)
		}
		l.set(func() { l.stateErr = nil })
		time.Sleep(2 * retryInterval)
		synctest.Wait()
		if len(l.sent) != sent+1 {
			t.Errorf("%d advertisements from the router that has become active, want 1", len(l.sent)-sent)
		}
		l.set(standby)
		time.Sleep(stateInterval + time.Second)
		sent = len(l.sent)
		stop()
		if len(l.sent) != sent {
			t.Error("the standby withdraws the router when it stops")
		}
		if s := said.String(); strings.Contains(s, "WARN") || strings.Count(s, "not sending router advertisements") != 2 {
			t.Errorf("the log says:\n%s", s)
		}
	})
}
