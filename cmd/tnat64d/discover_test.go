package main

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/internal/bus"
	"tnat64d/internal/config"
	"tnat64d/pref64"
)

// TestSearchKeepsPrefix changes how a prefix is looked for, as a reload does: the
// prefix in use stays until the new search finds one, unless its source is excluded
// or the link may lead to another network.
func TestSearchKeepsPrefix(t *testing.T) {
	link := plan.Link{Index: 1 << 20, Name: "none0", Up: true, Carrier: true, CarrierChanges: 1}
	asked := asks{sources: []config.Source{config.RA, config.DNS}}
	inUse := pref64.Remembered{Prefix: netip.MustParsePrefix("2001:db8:64::/96"), Origin: pref64.DNS, Router: netip.MustParseAddr("2001:db8::53"), Left: time.Minute}
	static := netip.MustParsePrefix("64:ff9b::/96")
	for _, c := range []struct {
		name   string
		change func(a *asks, l *plan.Link)
		want   netip.Prefix
	}{
		{"other servers", func(a *asks, _ *plan.Link) { a.servers = []netip.Addr{netip.MustParseAddr("2001:db8::54")} }, inUse.Prefix},
		{"its source alone", func(a *asks, _ *plan.Link) { a.sources = []config.Source{config.DNS} }, inUse.Prefix},
		{"the other source alone", func(a *asks, _ *plan.Link) { a.sources = []config.Source{config.RA} }, netip.Prefix{}},
		{"a configured prefix", func(a *asks, _ *plan.Link) { a.static = []netip.Prefix{static} }, static},
		{"another name of the link", func(_ *asks, l *plan.Link) { l.Name = "none1" }, inUse.Prefix},
		{"another carrier", func(a *asks, l *plan.Link) {
			a.servers, l.CarrierChanges = []netip.Addr{netip.MustParseAddr("2001:db8::54")}, 3
		}, netip.Prefix{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := slog.New(slog.DiscardHandler)
			b := bus.New(bus.Options{})
			defer b.Close()
			d := &discoveries{inbox: &inbox{ctx: t.Context(), events: make(chan event)}, log: log, bus: b, links: map[int]*discovery{}, nudged: &nudges{}}
			d.search([]plan.Link{link}, asked)
			first := d.links[link.Index]
			defer first.close()
			first.finder.Restore(inUse)
			if o, _ := first.finder.Current(); o.Prefix != inUse.Prefix {
				t.Fatalf("this test proves nothing: %v is in use", o.Prefix)
			}
			a, l := asked, link
			c.change(&a, &l)
			d.search([]plan.Link{l}, a)
			next := d.links[link.Index]
			defer next.close()
			if o, _ := next.finder.Current(); next == first || o.Prefix != c.want {
				t.Errorf("%v is in use, want %v", o.Prefix, c.want)
			}
		})
	}
}
