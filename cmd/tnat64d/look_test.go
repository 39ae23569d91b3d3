package main

import (
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tnat64d/clat"
	"tnat64d/datapath/engine"
	"tnat64d/internal/bus"
	"tnat64d/internal/control"
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
	path   *path
}

func newOnlooker() *onlooker {
	log := slog.New(slog.DiscardHandler)
	data := &datapath{paths: map[int]*path{}}
	o := &onlooker{finder: pref64.NewFinder(pref64.Options{Interface: 7, RA: true, Log: log}), path: &path{data: data, name: "clat0"}}
	data.paths[8] = o.path
	up := clat.Uplink{Name: "up0", Index: 7}
	o.tnat64d = &tnat64d{
		log: log, path: data, tick: time.AfterFunc(time.Hour, func() {}), links: map[int]*discovery{7: {finder: o.finder}},
		uplinks: []*uplink{{Uplink: up, state: control.Up, want: clat.Desired{Uplink: up, CLAT: &clat.CLAT{TUN: "clat0", PREF64: clat.PREF64{Prefix: prefixA}}}}},
	}
	o.hear(prefixA)
	o.look()
	return o
}

func (o *onlooker) hear(p netip.Prefix) {
	router := netip.MustParseAddr("fe80::1")
	o.finder.Apply(pref64.Report{
		RA:           &pref64.RouterAdvertisement{Router: router, RouterLifetime: time.Hour},
		Observations: []pref64.Observation{{Prefix: p, Origin: pref64.RA, Router: router, Interface: 7, Expires: time.Now().Add(10 * time.Hour)}},
	})
}

// pass lets packets and then time go by.
func (o *onlooker) pass(out, in uint64, then time.Duration) {
	o.path.past.kernel.to6.translated[engine.TCP].Packets += out
	o.path.past.kernel.to4.translated[engine.TCP].Packets += in
	time.Sleep(then)
	o.look()
}

// inVain sends without an answer until the PLAT counts as silent.
func (o *onlooker) inVain(t *testing.T) {
	t.Helper()
	o.pass(5, 0, lookOften)
	o.pass(1, 0, silence)
	o.pass(1, 0, lookOften)
	if got := o.uplinks[0].plat.state; got != control.PLATSilent {
		t.Fatalf("the PLAT is %s", got)
	}
}

func (o *onlooker) doubts() bool { return o.finder.Snapshot().Candidates[0].Doubted }

// TestDoubtEnds: a PREF64 whose PLAT answers again is as good as before.
func TestDoubtEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOnlooker()
		defer o.finder.Close()
		defer o.tick.Stop()
		o.inVain(t)
		if !o.doubts() {
			t.Error("no doubt")
		}
		o.pass(1, 1, time.Second)
		if o.doubts() {
			t.Error("the PLAT answers and is in doubt")
		}
		o.hear(prefixB)
		if p, _ := o.finder.Current(); p.Prefix != prefixA {
			t.Errorf("%v is in use", p.Prefix)
		}
	})
}

// TestDoubtLasts: another PREF64 may come when the first doubt is long over.
func TestDoubtLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOnlooker()
		defer o.finder.Close()
		defer o.tick.Stop()
		o.inVain(t)
		for range 3 * doubt / time.Minute {
			o.pass(1, 0, time.Minute)
		}
		o.hear(prefixB)
		if p, _ := o.finder.Current(); p.Prefix != prefixB {
			t.Errorf("%v is in use, and its PLAT has been silent for half an hour", p.Prefix)
		}
	})
}

// TestQueryDoesNotAct: a query returns what the daemon has judged, and judges
// nothing itself.
func TestQueryDoesNotAct(t *testing.T) {
	o := newOnlooker()
	defer o.finder.Close()
	defer o.tick.Stop()
	o.ctx, o.events, o.bus = t.Context(), make(chan event), bus.New(bus.Options{})
	defer o.bus.Close()
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
	u.plat.began, u.plat.suspected = time.Now().Add(-time.Hour), time.Now()
	o.path.past.kernel.to6.translated[engine.TCP].Packets += 100
	before := u.plat
	for range 10 {
		if s := (backend{o.tnat64d}).Status(); len(s.Uplinks) != 1 {
			t.Fatalf("%+v", s)
		}
	}
	if u.plat != before || o.doubts() {
		t.Errorf("a query has changed the judgement of the PLAT: %+v, was %+v", u.plat, before)
	}
}
