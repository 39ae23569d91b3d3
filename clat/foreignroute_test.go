package clat

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tnat64d/clat/plan"
)

var endpoint = plan.ForeignRoute{Destination: netip.MustParsePrefix("198.51.100.7/32"), Table: plan.TableMain, Protocol: 3, Scope: 253}

const restoreEndpoint = "ip route add 198.51.100.7/32 dev clat0 metric 0"

// tunIndex is that of the first TUN of a fakeHost.
const tunIndex = 100

// A VPN's route to its endpoint goes with the TUN, and comes back with it.
func TestForeignRouteComesBack(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	must(t, b.host.AddForeignRoute(tunIndex, endpoint))
	b.host.text()
	b.expect(Up, ``)

	// Another program deletes the TUN.
	b.host.dropLink(tunIndex)
	b.host.o.Routes = b.host.o.Routes[:1]
	b.pass()
	if done := b.host.text(); !strings.Contains(done, restoreEndpoint) {
		t.Errorf("the route is not restored:\n%s", done)
	}
	b.expect(Up, ``)

	// The VPN removes its route: it does not come back.
	delete(b.host.foreign, tunIndex)
	b.expect(Up, ``)
	b.host.dropLink(tunIndex)
	b.host.o.Routes = b.host.o.Routes[:1]
	b.pass()
	if done := b.host.text(); strings.Contains(done, restoreEndpoint) {
		t.Errorf("a route is restored that its owner removed:\n%s", done)
	}
}

// A restart restores the route on the same network, for some minutes.
func TestForeignRouteOverRestart(t *testing.T) {
	for _, c := range []struct {
		name     string
		kill     bool
		wait     time.Duration
		change   func(b *bench)
		restored bool
	}{
		{"stop", false, time.Second, nil, true},
		{"kill", true, time.Hour, nil, true},
		{"long ago", false, savedFor + time.Second, nil, false},
		{"another network", false, time.Second, func(b *bench) {
			b.host.o.Addrs[0].Prefix = netip.MustParsePrefix("2001:db8:7::10/64")
		}, false},
		{"another prefix", false, time.Second, func(b *bench) {
			b.host.o.PREF64[0].Prefix = netip.MustParsePrefix("2001:db8:64::/96")
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "journal")
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, wlan)
				j := b.journaled(file)
				b.up()
				must(t, b.host.AddForeignRoute(tunIndex, endpoint))
				b.expect(Up, restoreEndpoint)
				if c.kill {
					b.host.dropLink(tunIndex)
					b.host.dropAddr(netip.MustParseAddr(first))
					b.host.o.Routes = b.host.o.Routes[:1]
					must(t, j.f.Close())
				} else {
					must(t, b.rec.Down())
					must(t, j.Close())
				}
				time.Sleep(c.wait)
				if c.change != nil {
					c.change(b)
				}
				j = b.journaled(file)
				b.pass()
				b.host.dad(true)
				b.pass()
				if got := strings.Contains(b.host.text(), restoreEndpoint); got != c.restored {
					t.Errorf("restored %t\n%s", got, b.log)
				}
				b.pass()
				if saved := len(b.rec.saved.all) == 1; saved != c.restored {
					t.Errorf("remembered are %+v", b.rec.saved.all)
				}
				must(t, b.rec.Down())
				must(t, j.Close())
				if _, err := os.Stat(file); (err == nil) != c.restored {
					t.Errorf("the journal that is left: %v", err)
				}
			})
		})
	}
}

func TestForeignRoutesAreBounded(t *testing.T) {
	b := newBench(t, wlan)
	b.up()
	for i := range 3 * maxSaved {
		f := endpoint
		f.Metric = i
		must(t, b.host.AddForeignRoute(tunIndex, f))
	}
	b.pass()
	if n := len(b.rec.saved.all); n != maxSaved {
		t.Errorf("%d routes are remembered", n)
	}
}

func TestSavedRouteWords(t *testing.T) {
	full := plan.SavedRoute{TUN: "clat0", Network: plan.Network{Uplink: "wlan0", IPv6: netip.MustParseAddr("2001:db8::c1a7"), PREF64: netip.MustParsePrefix("64:ff9b::/96")}, Route: plan.ForeignRoute{
		Destination: netip.MustParsePrefix("0.0.0.0/1"), Source: netip.MustParseAddr("192.0.0.1"), Gateway: netip.MustParseAddr("192.0.0.1"),
		Metric: 4294967295, MTU: 1400, Table: 51820, Protocol: 16, Scope: 253, TOS: 16, Flags: 4,
	}}
	least := full
	least.Route = endpoint
	ipv6 := full
	ipv6.Route = plan.ForeignRoute{Destination: netip.MustParsePrefix("2001:db8:7::/48"), Gateway: netip.MustParseAddr("fe80::1"), Metric: 1024, Table: plan.TableMain, Protocol: 3}
	multipath := least
	multipath.Route.Multipath = [plan.MaxHops]plan.Hop{
		{TUN: true, Link: "clat0", Weight: 256},
		{Link: "eth0", Gateway: netip.MustParseAddr("fe80::2"), Weight: 1, Flags: 4},
	}
	object, group := full, multipath
	object.Route.Object = plan.NexthopObject{ID: 4294967295, IPv6: true, Protocol: 16}
	group.Route.Object = plan.NexthopObject{ID: 3, Protocol: 4}
	group.Route.Multipath[0].Object = plan.NexthopObject{ID: 1}
	group.Route.Multipath[1].Object = plan.NexthopObject{ID: 2, IPv6: true, Protocol: 255}
	metrics, all := group, full
	metrics.Route.Realm = 7
	for i := range all.Route.Metrics.Numbers {
		all.Route.Metrics.Numbers[i] = uint32(4294967295 - i)
	}
	all.Route.Metrics.MTULock, all.Route.Metrics.RTOLock, all.Route.Metrics.CongestionControl = true, true, "bpf_cubic.1"
	for _, s := range []plan.SavedRoute{full, least, ipv6, multipath, object, group, metrics, all} {
		if got, err := parseSavedRoute(savedRouteFields(s)); err != nil || got != s {
			t.Errorf("%q is read as %+v, %v", savedRouteFields(s), got, err)
		}
		for i := range savedRouteFields(s) {
			for _, bad := range []string{"", "x", "-1", "2001:db8::/32", "99999999999", "nhid=", "nhid=1,4,3;2", "nhid=0,4,3", "nhid=1,5,3", "nhid=1,4,256", "metrics=", "metrics=1", "metrics=18:1", "metrics=1:", "metrics=:1", "metrics=congctl:"} {
				words := slices.Clone(savedRouteFields(s))
				words[i] = bad
				_, _ = parseSavedRoute(words) // does not panic
			}
			if _, err := parseSavedRoute(savedRouteFields(s)[:i]); err == nil && (i < savedRouteWords || i < savedRouteWords+hopWords*len(s.Route.Hops()) && (i-savedRouteWords)%hopWords != 0) {
				t.Errorf("%d words are enough", i)
			}
		}
	}
}
