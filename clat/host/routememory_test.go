package host

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// manyRoutesBench is a host with as many routes as are remembered, on which
// nothing has happened for a while, and one whose default routes are known.
func manyRoutesBench(t *testing.T) (*Host, netlink.Link) {
	t.Helper()
	k := enterNetns(t)
	l, _ := addVeth(t, k, "wlan0", "lan0")
	addAddr(t, k, l, "192.0.2.2/24", 0)
	addAddr(t, k, l, "2001:db8:1::10/64", unix.IFA_F_NODAD)
	must(t, k.kernel.handle.RouteAdd(defaultRoute(l, "192.0.2.1")))
	must(t, k.kernel.handle.RouteAdd(defaultRoute(l, "2001:db8:1::1")))
	observe(t, k)
	if k.memory.socket != nil {
		t.Error("few routes are remembered too")
	}
	for i := range manyRoutes {
		must(t, k.kernel.handle.RouteAdd(specific(l, i)))
	}
	observe(t, k)
	if k.memory.socket == nil {
		t.Fatal("many routes are not remembered")
	}
	// Until the links have come to rest.
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		o, linkLocal := observe(t, k), 0
		for _, a := range o.Addrs {
			if a.Prefix.Addr().IsLinkLocalUnicast() && !a.Tentative {
				linkLocal++
			}
		}
		if linkLocal == 2 && k.memory.known {
			return k, l
		}
	}
	t.Fatal("the host does not come to rest")
	return nil, nil
}

func defaultRoute(l netlink.Link, gateway string) *netlink.Route {
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gateway), Priority: 1024, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}
	if r.Gw.To4() != nil {
		r.Dst = &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	return r
}

// specific is one of the many routes.
func specific(l netlink.Link, i int) *netlink.Route {
	prefix := &net.IPNet{IP: net.IPv4(10, byte(i>>8), byte(i), 0).To4(), Mask: net.CIDRMask(24, 32)}
	return &netlink.Route{LinkIndex: l.Attrs().Index, Dst: prefix, Gw: net.IPv4(192, 0, 2, 1)}
}

// What is remembered is what the kernel would say, and other routes change
// nothing about it.
func TestKernelRemembersRoutes(t *testing.T) {
	k, l := manyRoutesBench(t)
	rests := func() { k.memory.heard = time.Time{} } // for a second
	check := func(what string, known bool, routes int) {
		t.Helper()
		o := observe(t, k)
		late := !known && time.Since(k.memory.heard) >= quiet // this machine is slow
		if len(o.Routes) != routes || k.memory.known != known && !late {
			t.Errorf("%s: known %v, routes %+v", what, k.memory.known, o.Routes)
		}
	}
	check("at first", true, 2)
	asOf := k.memory.asOf
	must(t, k.kernel.handle.RouteDel(specific(l, 0)))
	must(t, k.kernel.handle.RouteAdd(specific(l, 0)))
	check("a route comes and goes", true, 2)
	if k.memory.asOf != asOf {
		t.Error("a route of no consequence makes us ask again")
	}

	second := defaultRoute(l, "2001:db8:1::2")
	second.Table = 1000
	must(t, k.kernel.handle.RouteAdd(second))
	check("a default route comes", false, 3)
	check("and a moment later", false, 3)
	rests()
	check("when it is quiet", true, 3)
	must(t, k.kernel.handle.RouteDel(second))
	check("it goes", false, 2)
	rests()
	check("when it is quiet again", true, 2)

	k.memory.asOf = time.Now().Add(-believed)
	observe(t, k)
	if time.Since(k.memory.asOf) > believed/2 {
		t.Error("what is remembered is believed for ever")
	}

	// More than can wait.
	must(t, k.memory.socket.SetReceiveBufferSize(1, true))
	for i := range 100 {
		must(t, k.kernel.handle.RouteDel(specific(l, i)))
	}
	asOf = k.memory.asOf
	check("messages lost", false, 2)
	if k.memory.asOf == asOf {
		t.Error("messages lost are no reason to ask again")
	}
	rests()
	check("and then", true, 2)
	must(t, k.kernel.handle.LinkSetDown(l))
	check("the link goes down", false, 0)
}

func TestKernelRouteState(t *testing.T) {
	dst := netip.MustParsePrefix("64:ff9b::/96")
	few := enterNetns(t)
	if last := few.RouteState(dst); few.RouteState(dst) == last {
		t.Error("few routes: nobody listens, and they do not seem to change")
	}
}

func TestKernelRouteStateOfMany(t *testing.T) {
	k, l := manyRoutesBench(t)
	dst, other := netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("2001:db8:64::/96")
	last := map[netip.Prefix]uint64{dst: k.RouteState(dst), other: k.RouteState(other)}
	check := func(what string, changed ...netip.Prefix) {
		t.Helper()
		observe(t, k)
		k.memory.heard = time.Time{}
		was := last
		last = map[netip.Prefix]uint64{dst: k.RouteState(dst), other: k.RouteState(other)}
		want := map[netip.Prefix]bool{}
		for _, a := range changed {
			want[a] = true
		}
		for a := range last {
			if (last[a] != was[a]) != want[a] {
				t.Errorf("%s: %s was %d, is %d", what, a, was[a], last[a])
			}
		}
	}
	check("nothing")
	must(t, k.kernel.handle.RouteDel(specific(l, 7)))
	check("an IPv4 route")
	r := defaultRoute(l, "2001:db8:1::3")
	r.Dst = &net.IPNet{IP: net.ParseIP("2a00::"), Mask: net.CIDRMask(16, 128)}
	must(t, k.kernel.handle.RouteAdd(r))
	check("a route elsewhere")
	r.Dst = &net.IPNet{IP: net.ParseIP("64:ff9b::"), Mask: net.CIDRMask(96, 128)}
	must(t, k.kernel.handle.RouteAdd(r))
	check("a route that fits", dst)
	must(t, k.kernel.handle.RouteDel(r))
	check("it goes", dst)
	r.Dst = &net.IPNet{IP: net.ParseIP("64:ff9b::cb00:7100"), Mask: net.CIDRMask(120, 128)}
	must(t, k.kernel.handle.RouteAdd(r))
	check("a route to a part", dst)
	must(t, k.kernel.handle.RouteAppend(defaultRoute(l, "2001:db8:1::4")))
	check("a default route", dst, other)
	rule := netlink.NewRule()
	rule.Family, rule.Table, rule.Priority = unix.AF_INET6, 51820, 100
	must(t, k.kernel.handle.RuleAdd(rule))
	check("a rule", dst, other)
	check("nothing again")
}
