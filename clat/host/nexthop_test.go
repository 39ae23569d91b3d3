package host

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"tnat64d/clat"
	"tnat64d/clat/plan"
)

// eachCompatMode runs a test with the kernel telling the next hops of nexthop
// objects with the routes, and telling only the objects' numbers.
func eachCompatMode(t *testing.T, test func(t *testing.T, b *realBench)) {
	for _, mode := range []string{"1", "0"} {
		t.Run("nexthop_compat_mode "+mode, func(t *testing.T) {
			b := newRealBench(t)
			must(t, os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte(mode), 0))
			test(t, b)
		})
	}
}

// TestDefaultRoutesByNexthop observes default routes by nexthop objects as if they
// named their next hops themselves.
func TestDefaultRoutesByNexthop(t *testing.T) {
	eachCompatMode(t, func(t *testing.T, b *realBench) {
		e0, _ := addVeth(t, b.k, "eth0", "to-eth0")
		e1, _ := addVeth(t, b.k, "eth1", "to-eth1")
		ip(t, `addr add 192.0.2.2/24 dev eth0; -6 addr add 2001:db8:1::10/64 dev eth0 nodad; addr add 10.7.0.2/24 dev eth1;
			nexthop add id 1 via 192.0.2.1 dev eth0; nexthop add id 2 dev eth1; nexthop add id 3 via 2001:db8:1::1 dev eth0;
			nexthop add id 4 group 1,3/3; nexthop add id 5 blackhole; -6 nexthop add id 8 blackhole;
			route add default nhid 1 metric 5; route add default nhid 1 metric 5 tos 8; route add default nhid 2 metric 6 src 10.7.0.2 mtu 1400;
			route add default nhid 3 metric 7 proto static; route add default nhid 4 metric 8 table 100; route add default nhid 5 metric 9;
			route add 0.0.0.0/1 nhid 2 table 100; route add 198.51.100.0/24 nhid 2;
			-6 route add default nhid 3 metric 5; -6 route add default nhid 8 metric 9; -6 route add 2001:db8:7::/48 nhid 3`)
		l0, l1, gw4, gw6 := e0.Attrs().Index, e1.Attrs().Index, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:1::1")
		main := plan.TableMain
		want := []plan.Route{
			{Link: l0, Gateway: gw4, Metric: 5, Table: main, Protocol: 3},
			{Link: l0, Gateway: gw4, Metric: 5, Table: main, Protocol: 3},
			{Link: l1, Metric: 6, Table: main, Protocol: 3, Source: netip.MustParseAddr("10.7.0.2"), MTU: 1400},
			{Link: l0, Gateway: gw6, Metric: 7, Table: main, Protocol: 4},
			{Link: l0, Gateway: gw4, Metric: 8, Table: 100, Protocol: 3},
			{Link: l0, Gateway: gw6, Metric: 8, Table: 100, Protocol: 3},
			{Link: l1, Part: netip.MustParsePrefix("0.0.0.0/1"), Table: 100, Protocol: 3},
			{Link: l0, IPv6: true, Gateway: gw6, Metric: 5, Table: main, Protocol: 3},
		}
		waitForCarrier(t, b.k, "eth0", "to-eth0")
		o := observe(t, b.k)
		left := slices.Clone(o.Routes)
		for _, r := range want {
			i := slices.Index(left, r)
			if i < 0 {
				t.Errorf("%+v is not observed", r)
				continue
			}
			left = slices.Delete(left, i, i+1)
		}
		if len(left) > 0 {
			t.Errorf("observed as well: %+v", left)
		}
		if !o.NativeIPv4(l0) || len(plan.Make(o, b.conf).Uplinks) != 1 {
			t.Errorf("native IPv4 %t, uplinks %+v, answers %+v", o.NativeIPv4(l0), plan.Make(o, b.conf).Uplinks, o.Egress4)
		}
	})
}

// TestUselessRouteByNexthop has a default route by a nexthop object by which nothing
// is reached: ours goes before it.
func TestUselessRouteByNexthop(t *testing.T) {
	eachCompatMode(t, func(t *testing.T, b *realBench) {
		b.uplink("eth0", "2001:db8:1::", 100)
		addVeth(t, b.k, "eth1", "to-eth1")
		b.until(clat.Up)
		ip(t, "nexthop add id 2 dev eth1; nexthop add id 3 group 2; route add default nhid 2 metric 7; route add 128.0.0.0/1 nhid 3")
		b.until(clat.Up)
		for _, to := range plan.GlobalIPv4 {
			if r, ok := b.k.getRoute(to, 0, flow{}, 0); !ok || r.link != byName(t, b.k, "clat0").Attrs().Index {
				t.Errorf("packets to %s leave by %+v", to, r)
			}
		}
	})
}

// TestForeignRoutesByNexthop reads and restores routes by nexthop objects on the TUN,
// which the kernel removes with it.
func TestForeignRoutesByNexthop(t *testing.T) {
	eachCompatMode(t, func(t *testing.T, b *realBench) {
		b.uplink("eth0", "2001:db8:1::", 100)
		dev, l := openCLAT(t, b.k, "clat0", "192.0.0.1")
		ip(t, `addr add 192.0.2.2/24 dev eth0; nexthop add id 1 dev clat0 proto static; nexthop add id 2 via 192.0.2.1 dev eth0; nexthop add id 3 group 1,3/2;
			-6 nexthop add id 4 via fe80::5 dev clat0; -6 nexthop add id 5 dev clat0; nexthop add id 6 via 192.0.0.9 dev clat0 onlink;
			nexthop add id 7 group 4,2/6 proto static; nexthop add id 8 dev clat0; nexthop add id 9 group 1/6 type resilient buckets 32;
			route add 198.51.100.7 nhid 1; route add 198.51.100.8 nhid 1 metric 7 proto static table 100; route add 203.0.113.0/24 nhid 3;
			route add 10.0.0.0/8 nhid 2; -6 route add 2001:db8:7::/48 nhid 4; -6 route add 2001:db8:8::/48 nhid 5 mtu 1400;
			route add 198.51.100.9 nhid 6; route add 198.51.100.10 nhid 7; route add 198.51.100.11 nhid 8; route add 198.51.100.12 nhid 9`)
		show := func() string {
			return out(t, "nexthop show") + out(t, "-d route show table all") + out(t, "-d -6 route show table all")
		}
		before := show()
		fs, known := b.k.ForeignRoutes(l.Index, false)
		if !known || len(fs) != 9 {
			t.Fatalf("%+v, %t", fs, known)
		}
		dev.Close()
		_, l = openCLAT(t, b.k, "clat0", "192.0.0.1")
		ip(t, "nexthop add id 8 via 192.0.2.8 dev eth0") // another program's now
		for range 2 {
			for _, f := range fs {
				if err := b.k.AddForeignRoute(l.Index, f); err != nil {
					t.Errorf("%+v: %v", f, err)
				}
			}
		}
		was, now := lines(before), lines(show())
		for _, line := range was {
			if i := slices.Index(now, line); i >= 0 {
				now = slices.Delete(now, i, i+1)
				continue
			}
			switch {
			case strings.Contains(line, "id 8 "): // the number is taken
			case strings.Contains(line, "id 9 "): // the kernel does not report its buckets with it
			case !strings.Contains(line, "clat0") && !strings.Contains(line, "id "):
			default:
				t.Errorf("not restored: %s", line)
			}
		}
		t.Logf("new:\n%s", strings.Join(now, "\n"))
		for _, plain := range []string{"198.51.100.11 ", "198.51.100.12 "} {
			if !slices.ContainsFunc(now, func(l string) bool { return strings.HasPrefix(l, "unicast "+plain) && !strings.Contains(l, "nhid") }) {
				t.Errorf("the route to %shas not got the next hops instead of the object", plain)
			}
		}
	})
}

// lines returns the lines of a text without spaces around them.
func lines(text string) (all []string) {
	for line := range strings.Lines(text) {
		all = append(all, strings.TrimSpace(line))
	}
	return all
}

// out returns what ip(8) prints.
func out(t *testing.T, command string) string {
	t.Helper()
	b, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", command, err, b)
	}
	return string(b)
}

// TestWatchNexthops hears of a nexthop object that changes, of which the kernel
// says nothing with the routes.
func TestWatchNexthops(t *testing.T) {
	b := newRealBench(t)
	must(t, os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte("0"), 0))
	addVeth(t, b.k, "eth0", "to-eth0")
	ip(t, "addr add 192.0.2.2/24 dev eth0; nexthop add id 1 via 192.0.2.1 dev eth0; route add default nhid 1")
	changed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	must(t, Watch(ctx, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}))
	// What the setting up causes comes first.
	for quiet := false; !quiet; {
		select {
		case <-changed:
		case <-time.After(time.Second):
			quiet = true
		}
	}
	ip(t, "nexthop replace id 1 via 192.0.2.9 dev eth0")
	select {
	case <-changed:
	case <-time.After(time.Minute):
		t.Error("nothing is heard")
	}
}
