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

	"github.com/vishvananda/netlink"
)

var endpoint = ForeignRoute{Destination: netip.MustParsePrefix("198.51.100.7/32"), Table: TableMain, Protocol: 3, Scope: 253}

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
				j, err := OpenJournal(file)
				must(t, err)
				b.rec = NewReconciler(b.host, b.host, j, b.rec.log)
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
				j, err = OpenJournal(file)
				must(t, err)
				b.rec = NewReconciler(b.host, b.host, j, b.rec.log)
				b.pass()
				b.host.dad(true)
				b.pass()
				if got := strings.Contains(b.host.text(), restoreEndpoint); got != c.restored {
					t.Errorf("restored %t\n%s", got, b.log)
				}
				b.pass()
				if saved := len(b.rec.foreign.saved) == 1; saved != c.restored {
					t.Errorf("remembered are %+v", b.rec.foreign.saved)
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
	if n := len(b.rec.foreign.saved); n != maxSaved {
		t.Errorf("%d routes are remembered", n)
	}
}

func TestSavedRouteWords(t *testing.T) {
	full := SavedRoute{"clat0", Network{"wlan0", netip.MustParseAddr("2001:db8::c1a7"), netip.MustParsePrefix("64:ff9b::/96")}, ForeignRoute{
		Destination: netip.MustParsePrefix("0.0.0.0/1"), Source: netip.MustParseAddr("192.0.0.1"), Gateway: netip.MustParseAddr("192.0.0.1"),
		Metric: 4294967295, MTU: 1400, Table: 51820, Protocol: 16, Scope: 253, TOS: 16, Flags: 4,
	}}
	least := full
	least.Route = endpoint
	for _, s := range []SavedRoute{full, least} {
		if got, err := parseSavedRoute(s.fields()); err != nil || got != s {
			t.Errorf("%q is read as %+v, %v", s.fields(), got, err)
		}
		for i := range s.fields() {
			for _, bad := range []string{"", "x", "-1", "2001:db8::/32", "99999999999"} {
				words := slices.Clone(s.fields())
				words[i] = bad
				_, _ = parseSavedRoute(words) // does not panic
			}
			if _, err := parseSavedRoute(s.fields()[:i]); err == nil {
				t.Errorf("%d words are enough", i)
			}
		}
	}
}

// TestKernelForeignRoutes reads and restores routes of a real kernel.
func TestKernelForeignRoutes(t *testing.T) {
	b := newRealBench(t)
	b.uplink("eth0", "2001:db8:1::", 100)
	dev, l := openCLAT(t, b.k, "clat0", "192.0.0.1")
	must(t, b.k.AddRoute(Route{Link: l.Index, Source: l.IPv4, Metric: 2048, MTU: 1480, Table: TableMain, Protocol: Protocol}))
	ip(t, `route add 198.51.100.7 dev clat0; route add 198.51.100.8 via 192.0.0.9 dev clat0 onlink src 192.0.0.1 metric 7 mtu 1300 proto static;
		route add 0.0.0.0/1 dev clat0 table 100; route add 10.0.0.0/8 dev eth0; route add blackhole 10.9.0.0/16`)
	fs, known := b.k.ForeignRoutes(l.Index, false)
	if !known || len(fs) != 3 {
		t.Fatalf("%+v, %t", fs, known)
	}
	dev.Close()
	if fs, known := b.k.ForeignRoutes(l.Index, true); known {
		t.Errorf("of a TUN that is gone: %+v", fs)
	}
	_, l = openCLAT(t, b.k, "clat0", "192.0.0.1")
	for range 2 {
		for _, f := range fs {
			must(t, b.k.AddForeignRoute(l.Index, f))
		}
	}
	again, _ := b.k.ForeignRoutes(l.Index, true)
	if !slices.Equal(fs, again) {
		t.Errorf("restored are %+v\nfrom %+v", again, fs)
	}
	// Another program has made its own meanwhile.
	ip(t, "route replace 198.51.100.7 dev eth0")
	must(t, b.k.AddForeignRoute(l.Index, endpoint))
	if rs, err := b.k.listRoutes(2, &netlink.Route{}, 0); err != nil || len(rs) == 0 {
		t.Fatal(err)
	}
	if again, _ := b.k.ForeignRoutes(l.Index, true); slices.Contains(again, endpoint) {
		t.Error("the route of another program is replaced or doubled")
	}
}
