package host

import (
	"fmt"
	"io"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tnat64d/clat/plan"

	"github.com/vishvananda/netlink"
)

// TestForeignRouteFields sets each field of netlink.Route. It must come back, or be one
// of those that are not restored.
func TestForeignRouteFields(t *testing.T) {
	elsewhere := map[string]string{
		"LinkIndex": "that of the new TUN", "ILinkIndex": "a dump has none", "Family": "that of Dst", "Type": "all are unicast",
		"MPLSDst": "of another family", "NewDst": "of MPLS", "Encap": "not recorded",
		"Dst": "next hops and addresses: TestKernelForeignRoutes and TestKernelForeignMultipath", "Src": "see Dst", "Gw": "see Dst",
		"Via": "see Dst", "MultiPath": "see Dst", "Flags": "of a next hop: see Dst",
	}
	k := &routes{}
	kind := reflect.TypeFor[netlink.Route]()
	for i := range kind.NumField() {
		name := kind.Field(i).Name
		if elsewhere[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			r := routeOf(endpointRoute)
			r.LinkIndex = 3
			switch v := reflect.ValueOf(r).Elem().Field(i); v.Kind() {
			case reflect.Int:
				v.SetInt(int64(100 + i))
			case reflect.Uint8:
				v.SetUint(200)
			case reflect.Bool:
				v.SetBool(true)
			case reflect.String:
				v.SetString("reno")
			default:
				t.Fatalf("a field of a kind that the test does not know: %s", v.Kind())
			}
			f, ok := k.foreignRoute(*r, 3)
			if !ok {
				t.Fatal("the route is not recorded")
			}
			again := routeOf(f)
			again.LinkIndex = 3
			if !reflect.DeepEqual(again, r) {
				t.Errorf("restored is %+v\nfrom %+v", again, r)
			}
		})
	}
}

// TestKernelForeignMetrics restores routes with all attributes that ip-route(8) can give
// them, each of which must come back, by a next hop and by a nexthop object.
func TestKernelForeignMetrics(t *testing.T) {
	all := []string{
		"mtu 1300", "mtu lock 1300", "window 5000", "rtt 30ms", "rttvar 20ms", "ssthresh 10", "cwnd 11", "advmss 1200", "reordering 5",
		"hoplimit 33", "initcwnd 20", "initrwnd 21", "features ecn", "rto_min 50ms", "quickack 1", "congctl reno", "fastopen_no_cookie 1",
		"tos 0x10", "realm 7", "scope link", "metric 9", "protocol static", "src 192.0.0.1",
		"mtu 1300 window 5000 advmss 1200 hoplimit 33 initcwnd 20 initrwnd 21 quickack 1 congctl reno realm 7",
	}
	for _, hop := range []string{"dev clat0", "nhid 7"} {
		t.Run(hop, func(t *testing.T) {
			b := newRealBench(t)
			b.uplink("eth0", "2001:db8:1::", 100)
			dev, l := openCLAT(t, b.k, "clat0", "192.0.0.1")
			ip(t, "nexthop add id 7 dev clat0")
			for i, attrs := range all {
				ip(t, fmt.Sprintf("route add 198.51.100.%d %s %s", i, hop, attrs))
			}
			before := routesText(t)
			fs, again := restoredForeign(t, b, dev, l.Index, len(all))
			if !slices.Equal(fs, again) {
				t.Errorf("restored are %+v\nfrom %+v", again, fs)
			}
			if after := routesText(t); after != before {
				t.Errorf("restored are\n%s\nfrom\n%s", after, before)
			}
		})
	}
}

// restoredForeign records the routes of other programs through a TUN, of which there
// are n, opens the TUN again and restores them. again is what is recorded then.
func restoredForeign(t *testing.T, b *realBench, dev io.Closer, tun, n int) (fs, again []plan.ForeignRoute) {
	t.Helper()
	fs, known := b.k.ForeignRoutes(tun, true)
	if !known || len(fs) != n {
		t.Fatalf("%d routes are recorded of %d: %+v", len(fs), n, fs)
	}
	dev.Close()
	_, l := openCLAT(t, b.k, "clat0", "192.0.0.1")
	for _, f := range fs {
		must(t, b.k.AddForeignRoute(l.Index, f))
	}
	again, _ = b.k.ForeignRoutes(l.Index, true)
	return fs, again
}

// routesText returns the IPv4 routes as ip-route(8) shows them.
func routesText(t *testing.T) string {
	t.Helper()
	text, err := exec.Command("ip", "-4", "-details", "route", "show", "table", "all").Output()
	must(t, err)
	return string(text)
}

// TestKernelForeignSpecial has routes with attributes that would be lost: they are not
// recorded, and a plain route beside each of them is.
func TestKernelForeignSpecial(t *testing.T) {
	for _, special := range []string{
		"-4 198.51.100.0/24 encap ip id 7 dst 192.0.2.9 dev clat0",
		"-4 198.51.100.0/24 cwnd lock 11 dev clat0",
		"-4 198.51.100.0/24 mtu lock 1300 advmss lock 1200 dev clat0",
		"-4 198.51.100.0/24 nexthop dev clat0 realm 7 nexthop dev eth0",
		"-4 198.51.100.0/24 nexthop dev clat0 encap ip id 7 dst 192.0.2.9 nexthop dev eth0",
		"-6 2001:db8:7::/48 encap ip6 id 7 dst 2001:db8:9::9 dev clat0",
		"-6 2001:db8:7::/48 from 2001:db8:8::/48 dev clat0",
		"-6 2001:db8:7::/48 dev clat0 expires 1000",
		"-6 2001:db8:7::/48 dev clat0 pref high",
	} {
		t.Run(special, func(t *testing.T) {
			b := newRealBench(t)
			b.uplink("eth0", "2001:db8:1::", 100)
			_, l := openCLAT(t, b.k, "clat0", "192.0.0.1")
			family, route, _ := strings.Cut(special, " ")
			dst, _, _ := strings.Cut(route, " ")
			ip(t, family+" route add "+route)
			ip(t, family+" route add "+dst+" dev clat0 metric 77")
			fs, known := b.k.ForeignRoutes(l.Index, true)
			if !known || len(fs) != 1 || fs[0].Metric != 77 {
				t.Errorf("recorded are %+v, %t", fs, known)
			}
		})
	}
}

// TestKernelForeignMetricsIPv6 is TestKernelForeignMetrics for IPv6 routes, a multipath
// route among them.
func TestKernelForeignMetricsIPv6(t *testing.T) {
	b := newRealBench(t)
	b.uplink("eth0", "2001:db8:1::", 100)
	dev, l := openCLAT(t, b.k, "clat0", "192.0.0.1")
	all := []string{
		"dev clat0 mtu lock 1300", "dev clat0 window 5000 advmss 1200", "dev clat0 hoplimit 33 initcwnd 20 initrwnd 21 quickack 1 congctl reno",
		"advmss 1200 initcwnd 20 nexthop via fe80::5 dev clat0 nexthop via fe80::9 dev eth0",
	}
	for i, attrs := range all {
		ip(t, fmt.Sprintf("-6 route add 2001:db8:7:%d::/64 %s", i, attrs))
	}
	fs, again := restoredForeign(t, b, dev, l.Index, len(all))
	for _, f := range fs {
		// The kernel appends what is restored of an IPv6 multipath route.
		if !slices.ContainsFunc(again, func(g plan.ForeignRoute) bool { return sameHops(g, f) }) {
			t.Errorf("restored are %+v\nwithout %+v", again, f)
		}
	}
}
