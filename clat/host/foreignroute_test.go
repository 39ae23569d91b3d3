package host

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"tnat64d/clat/plan"
)

var endpointRoute = plan.ForeignRoute{Destination: netip.MustParsePrefix("198.51.100.7/32"), Table: plan.TableMain, Protocol: 3, Scope: 253}

// TestKernelForeignRoutes reads and restores routes of a real kernel.
func TestKernelForeignRoutes(t *testing.T) {
	b := newRealBench(t)
	b.uplink("eth0", "2001:db8:1::", 100)
	dev, l := openCLAT(t, b.k, "clat0", "192.0.0.1")
	must(t, b.k.AddRoute(plan.Route{Link: l.Index, Source: l.IPv4, Metric: 2048, MTU: 1480, Table: plan.TableMain, Protocol: plan.Protocol}))
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
	must(t, b.k.AddForeignRoute(l.Index, endpointRoute))
	if rs, err := b.k.listRoutes(2, &netlink.Route{}, 0); err != nil || len(rs) == 0 {
		t.Fatal(err)
	}
	if again, _ := b.k.ForeignRoutes(l.Index, true); slices.Contains(again, endpointRoute) {
		t.Error("the route of another program is replaced or doubled")
	}
}

// TestKernelForeignMultipath reads and restores IPv6 and multipath routes of a real
// kernel.
func TestKernelForeignMultipath(t *testing.T) {
	b := newRealBench(t)
	b.uplink("eth0", "2001:db8:1::", 100)
	dev, l := openCLAT(t, b.k, "clat0", "192.0.0.1")
	ip(t, `addr add 192.0.2.2/24 dev eth0; -6 addr add 2001:db8:1::2/64 dev eth0 nodad;
		route add 198.51.100.0/24 nexthop dev clat0 weight 3 nexthop via 192.0.2.1 dev eth0;
		route add 203.0.113.0/24 via inet6 2001:db8:1::9 dev eth0;
		-6 route add 2001:db8:7::/48 dev clat0 proto static;
		-6 route add 2001:db8:8::/48 dev clat0 metric 7 mtu 1400 table 100;
		-6 route add 2001:db8:9::/48 nexthop via fe80::5 dev clat0 weight 2 nexthop via 2001:db8:1::9 dev eth0;
		-6 route add 2001:db8:a::/48 dev eth0`)
	fs, known := b.k.ForeignRoutes(l.Index, false)
	if !known || len(fs) != 4 {
		t.Fatalf("%+v, %t", fs, known)
	}
	dev.Close()
	_, l = openCLAT(t, b.k, "clat0", "192.0.0.1")
	for range 2 {
		for _, f := range fs {
			must(t, b.k.AddForeignRoute(l.Index, f))
		}
	}
	again, _ := b.k.ForeignRoutes(l.Index, true)
	for _, f := range fs {
		// The kernel appends what is restored of an IPv6 multipath route.
		if i := slices.IndexFunc(again, func(g plan.ForeignRoute) bool { return g.Destination == f.Destination }); i < 0 || !sameHops(again[i], f) {
			t.Errorf("restored are %+v\nfrom %+v", again, f)
		}
	}
	if len(again) != len(fs) {
		t.Errorf("%d routes are restored from %d: %+v", len(again), len(fs), again)
	}

	// Another program has made a different route from what was left.
	dev, l = openCLAT(t, b.k, "clat1", "192.0.0.3")
	defer dev.Close()
	ip(t, "-6 route del 2001:db8:9::/48; -6 route add 2001:db8:9::/48 via 2001:db8:1::7 dev eth0")
	for _, f := range fs {
		_ = b.k.AddForeignRoute(l.Index, f)
	}
	for _, f := range fs {
		if f.Destination == netip.MustParsePrefix("2001:db8:9::/48") {
			again, _ := b.k.ForeignRoutes(l.Index, true)
			if slices.ContainsFunc(again, func(g plan.ForeignRoute) bool { return g.Destination == f.Destination }) {
				t.Errorf("next hops are added to the route of another program: %+v", again)
			}
		}
	}
}

// sameHops reports whether two routes are equal but for the order of next hops.
func sameHops(a, b plan.ForeignRoute) bool {
	for _, h := range a.Hops() {
		if !slices.Contains(b.Hops(), h) {
			return false
		}
	}
	same := len(a.Hops()) == len(b.Hops())
	a.Multipath, b.Multipath = [plan.MaxHops]plan.Hop{}, [plan.MaxHops]plan.Hop{}
	return same && a == b
}
