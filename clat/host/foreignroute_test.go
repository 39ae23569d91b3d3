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
