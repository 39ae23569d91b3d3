package main

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tnat64d/clat/host"
	"tnat64d/clat/plan"
	"tnat64d/datapath"
	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/internal/bus"
	"tnat64d/internal/control"
	"tnat64d/internal/daemon"
	"tnat64d/pref64"
)

var (
	prefixA = netip.MustParsePrefix("2001:db8:a::/96")
	prefixB = netip.MustParsePrefix("2001:db8:b::/96")
)

// onlooker is a daemon with one CLAT, whose packets only count.
type onlooker struct {
	*tnat64d
	finder *pref64.Finder
	path   *fakePath

	sockets []host.Peer               // of the CLAT's programs
	answers map[netip.Prefix]bool     // behind which PREF64 somebody answers
	asked   map[netip.Prefix][]target // whom, the last time
	probes  int
	mu      sync.Mutex // for asked and probes
	gone    bool       // the router
}

func newOnlooker(t *testing.T) *onlooker {
	log := slog.New(slog.DiscardHandler)
	data := &datapaths{}
	o := &onlooker{
		finder:  pref64.NewFinder(pref64.Options{Interface: 7, RA: true, DNS: true, Log: log}),
		path:    &fakePath{},
		answers: map[netip.Prefix]bool{}, asked: map[netip.Prefix][]target{},
	}
	data.paths = []*path{{packetPath: o.path, tun: "clat0"}}
	up := plan.Uplink{Name: "up0", Index: 7}
	in := &inbox{ctx: t.Context(), events: make(chan event, 8)}
	report := &reporter{log: log, start: daemon.NewStartup(log), paths: data}
	found := &discoveries{inbox: in, log: log, links: map[int]*discovery{7: {finder: o.finder}}, memory: &memory{}, nudged: &nudges{resolvers: map[string][]netip.Addr{}}}
	o.tnat64d = &tnat64d{
		inbox: in, log: log, path: data, report: report, found: found, tick: time.AfterFunc(time.Hour, func() {}),
		uplinks: []*uplink{{Uplink: up, state: control.Up, want: plan.Desired{Uplink: up, CLAT: &plan.CLAT{TUN: "clat0"}}}},
		judge: &platJudge{
			inbox: in, log: log, found: found, paths: data, changed: report.changed,
			peers:       func(netip.Addr) []host.Peer { return o.sockets },
			unreachable: func(int, netip.Addr) bool { return o.gone },
			probe: func(_ context.Context, w probeWay, ts []target) bool {
				p := w.pref64
				if !p.IsValid() {
					p = o.uplinks[0].want.CLAT.PREF64.Prefix
				}
				o.mu.Lock() // probes of several goroutines may meet
				defer o.mu.Unlock()
				o.asked[p] = ts
				o.probes++
				return len(ts) > 0 && o.answers[p]
			},
		},
	}
	t.Cleanup(func() { o.finder.Close(); o.tick.Stop() })
	o.hear(router1, 18*time.Hour, prefixA)
	o.onTick()
	return o
}

var (
	router1 = netip.MustParseAddr("fe80::1")
	router2 = netip.MustParseAddr("fe80::2")
	server1 = netip.MustParseAddrPort("192.0.2.1:443")
	server2 = netip.MustParseAddrPort("198.51.100.2:22")
	server3 = netip.MustParseAddrPort("203.0.113.3:80")
)

// hear has a router advertise prefixes.
func (o *onlooker) hear(router netip.Addr, lifetime time.Duration, ps ...netip.Prefix) {
	r := pref64.Report{RA: &pref64.RouterAdvertisement{Router: router, RouterLifetime: lifetime}}
	for _, p := range ps {
		r.Observations = append(r.Observations, pref64.Observation{Prefix: p, Origin: pref64.RA, Router: router, Interface: 7, Expires: time.Now().Add(100 * time.Hour)})
	}
	o.finder.Apply(r)
	o.follow()
}

// follow makes the CLAT use the PREF64 that is chosen.
func (o *onlooker) follow() {
	now, _ := o.finder.Current()
	o.uplinks[0].want.CLAT.PREF64 = plan.PREF64{Link: 7, Prefix: now.Prefix}
}

// fakePath only counts.
type fakePath struct{ stats datapath.Stats }

func (*fakePath) Status() datapath.Status                     { return datapath.Status{} }
func (p *fakePath) Stats() datapath.Stats                     { return p.stats }
func (*fakePath) Flows() steer.Flows                          { return steer.Flows{} }
func (*fakePath) SetTrace(func(engine.Seen)) error            { return nil }
func (*fakePath) FollowCaptures() (_, captured bool, _ error) { return false, false, nil }

// pass lets packets and then time go by.
func (o *onlooker) pass(out, in uint64, then time.Duration) {
	o.path.stats.Kernel.To6.Translated[engine.TCP].Packets += out
	o.path.stats.Kernel.To4.Translated[engine.TCP].Packets += in
	time.Sleep(then)
	o.onTick()
	synctest.Wait()
	for len(o.events) > 0 {
		o.handle(<-o.events)
	}
	o.follow()
}

// onlyOtherAnswers has the PLAT in use fall silent beside another router's, which answers.
func (o *onlooker) onlyOtherAnswers() {
	o.answers[prefixB] = true
	o.sockets = talk(true, server1, server2)
	o.pass(1, 1, lookOften)
	o.hear(router2, time.Hour, prefixB)
	o.inVain()
}

// inVain sends without an answer until the PLAT is suspected and asked.
func (o *onlooker) inVain() {
	o.pass(5, 0, lookOften)
	o.pass(1, 0, silence)
	o.pass(1, 0, lookOften)
}

func (o *onlooker) wants(t *testing.T, state control.PLATState, inUse netip.Prefix) {
	t.Helper()
	if got := o.uplinks[0].plat.state; got != state {
		t.Errorf("the PLAT is %s, want %s", got, state)
	}
	if got, _ := o.finder.Current(); got.Prefix != inUse {
		t.Errorf("%v is in use, want %v", got.Prefix, inUse)
	}
}

func talk(answered bool, servers ...netip.AddrPort) (peers []host.Peer) {
	for _, s := range servers {
		peers = append(peers, host.Peer{Addr: s, TCP: true, Answered: answered, User: 1000})
	}
	return peers
}

// TestPLATJudged is what a daemon does about a PLAT from which nothing comes.
func TestPLATJudged(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, o *onlooker)
	}{
		{"a local user sends to hosts that do not exist", func(t *testing.T, o *onlooker) {
			o.answers[prefixA], o.answers[prefixB] = true, true
			o.sockets = talk(true, server1)
			o.pass(1, 1, lookOften)
			o.hear(router2, time.Hour, prefixB)
			o.sockets = talk(false, server2, server3)
			for range 100 {
				o.pass(50, 0, lookOften)
			}
			o.wants(t, control.PLATAnswering, prefixA)
			if o.probes == 0 || o.probes > 20 {
				t.Errorf("asked %d times in %v", o.probes, 100*lookOften)
			}
		}},
		{"and nobody has answered by TCP", func(t *testing.T, o *onlooker) {
			o.answers[prefixB] = true
			o.pass(1, 1, lookOften)
			o.hear(router2, time.Hour, prefixB)
			o.sockets = talk(false, server2, server3)
			for range 100 {
				o.pass(50, 0, lookOften)
			}
			o.wants(t, control.PLATAnswering, prefixA)
			if !o.uplinks[0].plat.unsure {
				t.Error("no doubt is told")
			}
		}},
		{"several users send by UDP alone and wait for long", func(t *testing.T, o *onlooker) {
			o.answers[prefixB] = true
			o.pass(1, 1, lookOften)
			o.hear(router2, time.Hour, prefixB)
			o.sockets = []host.Peer{{Addr: server1, User: 1000}, {Addr: server2, User: 123}}
			o.inVain()
			o.wants(t, control.PLATAnswering, prefixA) // not yet
			for range 100 {
				o.pass(50, 0, lookOften)
			}
			o.wants(t, control.PLATSilent, prefixA) // another router's word needs more
			o.pass(50, 50, lookOften)
			o.wants(t, control.PLATAnswering, prefixA)
		}},
		{"several users, and the same router has another prefix", func(t *testing.T, o *onlooker) {
			o.answers[prefixB] = true
			o.pass(1, 1, lookOften)
			o.hear(router1, time.Hour, prefixA, prefixB)
			o.sockets = []host.Peer{{Addr: server1, User: 1000}, {Addr: server2, User: 123}}
			for range 100 {
				o.pass(50, 0, lookOften)
			}
			if got, _ := o.finder.Current(); got.Prefix != prefixB {
				t.Errorf("%v is in use, want %v", got.Prefix, prefixB)
			}
		}},
		{"several users to one destination", func(t *testing.T, o *onlooker) {
			o.pass(1, 1, lookOften)
			o.sockets = []host.Peer{{Addr: server1, User: 1000}, {Addr: server1, User: 123}}
			for range 100 {
				o.pass(50, 0, lookOften)
			}
			o.wants(t, control.PLATAnswering, prefixA)
		}},
		{"and his own servers stop to answer", func(t *testing.T, o *onlooker) {
			o.answers[prefixA], o.answers[prefixB] = true, true
			o.sockets = talk(true, server1)
			o.sockets[0].User = 0
			for i := range 200 {
				o.sockets = append(o.sockets, host.Peer{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 80), TCP: true, Answered: true, User: 65534})
			}
			o.pass(1, 1, time.Minute)
			o.hear(router2, time.Hour, prefixB)
			o.sockets = nil
			o.inVain()
			asked := o.asked[prefixA]
			if len(asked) != maxTargets || asked[0].addr != server1.Addr() && asked[1].addr != server1.Addr() {
				t.Errorf("asked are %v, not the other user's server", asked)
			}
			o.wants(t, control.PLATAnswering, prefixA)
		}},
		{"a neighbour's prefix, though nothing else answers", func(t *testing.T, o *onlooker) {
			o.answers[prefixB] = true
			o.sockets = talk(true, server1, server2, server3)
			o.pass(1, 1, lookOften)
			o.hear(router2, 0, prefixB)
			o.inVain()
			o.wants(t, control.PLATSilent, prefixA)
		}},
		{"another router's, when several no longer answer", func(t *testing.T, o *onlooker) {
			o.onlyOtherAnswers()
			o.onTick()
			o.wants(t, control.PLATUnknown, prefixB)
		}},
		{"or when its own router is unreachable", func(t *testing.T, o *onlooker) {
			o.answers[prefixB], o.gone = true, true
			o.sockets = talk(true, server1)
			o.pass(1, 1, lookOften)
			o.hear(router2, time.Hour, prefixB)
			o.inVain()
			o.onTick()
			o.wants(t, control.PLATUnknown, prefixB)
		}},
		{"but not when one does not", func(t *testing.T, o *onlooker) {
			o.answers[prefixB] = true
			o.sockets = talk(true, server1)
			o.pass(1, 1, lookOften)
			o.hear(router2, time.Hour, prefixB)
			o.inVain()
			o.wants(t, control.PLATSilent, prefixA)
		}},
		{"nor when nobody answers there either", func(t *testing.T, o *onlooker) {
			o.sockets = talk(true, server1, server2)
			o.pass(1, 1, lookOften)
			o.hear(router2, time.Hour, prefixB)
			o.inVain()
			o.wants(t, control.PLATSilent, prefixA)
		}},
		{"the same router's, when nobody has ever answered", func(t *testing.T, o *onlooker) {
			o.hear(router1, time.Hour, prefixA, prefixB)
			o.inVain()
			o.onTick()
			o.wants(t, control.PLATUnknown, prefixB)
		}},
		{"another router's, when nobody has ever answered", func(t *testing.T, o *onlooker) {
			o.answers[prefixB] = true
			o.hear(router2, time.Hour, prefixB)
			o.sockets = talk(false, server1, server2, server3)
			o.inVain()
			o.wants(t, control.PLATSilent, prefixA)
		}},
		{"unless the configured one answers there only", func(t *testing.T, o *onlooker) {
			o.answers[prefixB] = true
			o.judge.target = server1.Addr()
			o.hear(router2, time.Hour, prefixB)
			o.inVain()
			o.onTick()
			o.wants(t, control.PLATUnknown, prefixB)
		}},
		{"it answers again", func(t *testing.T, o *onlooker) {
			o.sockets = talk(true, server1, server2)
			o.pass(1, 1, lookOften)
			o.inVain()
			o.wants(t, control.PLATSilent, prefixA)
			o.pass(1, 1, time.Second)
			o.wants(t, control.PLATAnswering, prefixA)
		}},
		{"another one comes later", func(t *testing.T, o *onlooker) {
			o.answers[prefixB] = true
			o.sockets = talk(true, server1, server2)
			o.pass(1, 1, lookOften)
			o.inVain()
			o.wants(t, control.PLATSilent, prefixA)
			for range 30 {
				o.pass(1, 0, time.Minute)
			}
			o.hear(router2, time.Hour, prefixB)
			o.pass(1, 0, checks.Last)
			o.pass(3, 0, lookOften)
			o.onTick()
			o.wants(t, control.PLATUnknown, prefixB)
		}},
		{"back when the first one may work", func(t *testing.T, o *onlooker) {
			o.onlyOtherAnswers()
			for range 60 { // far longer than a doubt lasts
				o.pass(5, 5, time.Minute)
			}
			o.wants(t, control.PLATAnswering, prefixB)
			o.answers[prefixA] = true
			for range 2 * int(returns.Last/time.Minute) {
				o.pass(5, 5, time.Minute)
			}
			o.wants(t, control.PLATAnswering, prefixA)
		}},
		{"DNS is no longer asked besides when the first one works again", func(t *testing.T, o *onlooker) {
			o.onlyOtherAnswers()
			o.pass(5, 5, lookOften)
			o.wants(t, control.PLATAnswering, prefixB)
			if !strings.Contains(o.finder.Snapshot().Discovery, "DNS is asked too") {
				t.Errorf("%q", o.finder.Snapshot().Discovery)
			}
			o.answers[prefixA] = true
			for range 2 * int(returns.Last/time.Minute) {
				o.pass(5, 5, time.Minute)
			}
			o.wants(t, control.PLATAnswering, prefixA)
			if got := o.finder.Snapshot().Discovery; got != "router advertisements" {
				t.Errorf("%q", got)
			}
		}},
		{"nobody is asked while nobody speaks", func(t *testing.T, o *onlooker) {
			o.onlyOtherAnswers()
			o.pass(1, 1, lookOften)
			before := o.probes
			for range 120 {
				o.pass(0, 0, time.Minute)
			}
			if o.probes != before {
				t.Errorf("asked %d times in two hours", o.probes-before)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t, newOnlooker(t)) })
		})
	}
}

// TestQueryDoesNotAct: a query returns what the daemon has judged, and judges
// nothing itself.
func TestQueryDoesNotAct(t *testing.T) {
	o := newOnlooker(t)
	o.found.bus = bus.New(bus.Options{})
	defer o.found.bus.Close()
	go func() {
		for {
			select {
			case e := <-o.events:
				o.handle(e)
			case <-o.ctx.Done():
				return
			}
		}
	}()
	// The next look would take the PLAT for silent.
	u := o.uplinks[0]
	u.plat.began, u.plat.suspected, u.plat.sent = time.Now().Add(-time.Hour), time.Now(), unanswered
	o.path.stats.Kernel.To6.Translated[engine.TCP].Packets += 100
	before := u.plat
	for range 10 {
		if s := (backend{o.tnat64d}).Status(); len(s.Uplinks) != 1 {
			t.Fatalf("%+v", s)
		}
	}
	if u.plat != before || o.probes != 0 {
		t.Errorf("a query has changed the judgement of the PLAT: %+v, was %+v", u.plat, before)
	}
}
