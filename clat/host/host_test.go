package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/datapath/steer"
	"tnat64d/internal/needs"
	"tnat64d/tun"
)

// enterNetns moves the test into a network namespace of its own: see [needs.Netns].
func enterNetns(t *testing.T) *Host {
	t.Helper()
	t.Parallel() // they mostly wait for the kernel
	needs.Netns(t)
	k, err := New(steer.NewPrograms().Foreign)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// addVeth makes a pair, both ends up. What one end has, DAD on the other finds.
func addVeth(t *testing.T, k *Host, name, peer string) (link, peerLink netlink.Link) {
	t.Helper()
	must(t, k.kernel.handle.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500}, PeerName: peer}))
	link, peerLink = byName(t, k, name), byName(t, k, peer)
	must(t, k.kernel.handle.LinkSetUp(link))
	must(t, k.kernel.handle.LinkSetUp(peerLink))
	return link, peerLink
}

func byName(t *testing.T, k *Host, name string) netlink.Link {
	t.Helper()
	l, err := k.kernel.handle.LinkByName(name)
	must(t, err)
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addAddr(t *testing.T, k *Host, l netlink.Link, cidr string, flags int) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	must(t, err)
	a.Flags = flags
	must(t, k.kernel.handle.AddrAdd(l, a))
}

func observe(t *testing.T, k *Host) plan.Observed {
	t.Helper()
	o, err := k.Observe()
	must(t, err)
	return o
}

// waitAddr waits until the address is as wanted.
func waitAddr(t *testing.T, k *Host, link int, a netip.Addr, want func(plan.Addr) bool) plan.Addr {
	t.Helper()
	var last plan.Addr
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		e, ok := observe(t, k).Addr(link, a)
		if ok && want(e) {
			return e
		}
		last = e
	}
	t.Fatalf("address %s stays %+v", a, last)
	return plan.Addr{}
}

var clatAddr = netip.MustParseAddr("2001:db8:1::c1a7")

func TestKernelCLATAddress(t *testing.T) {
	k := enterNetns(t)
	l, _ := addVeth(t, k, "wlan0", "lan0")
	index := l.Attrs().Index
	before := allRoutes(t, k)
	must(t, k.AddCLATAddr(index, clatAddr, false))
	must(t, k.AddCLATAddr(index, clatAddr, false)) // twice is not an error
	e, ok := observe(t, k).Addr(index, clatAddr)
	if !ok || !e.Tentative {
		t.Errorf("DAD is not under way: %+v", e)
	}
	e = waitAddr(t, k, index, clatAddr, func(a plan.Addr) bool { return !a.Tentative })
	want := plan.Addr{Link: index, Prefix: netip.PrefixFrom(clatAddr, 128), Deprecated: true, NoRoute: true, Valid: plan.Forever, Protocol: plan.Protocol}
	if e.Protocol == 0 {
		want.Protocol = 0 // before Linux 5.18
	}
	if e != want {
		t.Errorf("address\n got %+v\nwant %+v", e, want)
	}
	if !e.LooksLikeCLAT() {
		t.Error("it would not be recognised after a kill")
	}
	if e.Preferred != 0 {
		t.Errorf("preferred for %s", e.Preferred)
	}
	// Only the local table may know it.
	for _, r := range allRoutes(t, k) {
		if r.Table != unix.RT_TABLE_LOCAL && !slices.ContainsFunc(before, func(b netlink.Route) bool { return b.Equal(r) }) {
			t.Errorf("a new route: %s", r)
		}
	}
	must(t, k.DelCLATAddr(index, clatAddr))
	must(t, k.DelCLATAddr(index, clatAddr)) // gone is as good as removed
	must(t, k.DelCLATAddr(9999, clatAddr))
}

func allRoutes(t *testing.T, k *Host) []netlink.Route {
	t.Helper()
	rs, err := k.kernel.handle.RouteListFiltered(unix.AF_INET6, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	must(t, err)
	return slices.DeleteFunc(rs, func(r netlink.Route) bool {
		return r.Table == unix.RT_TABLE_LOCAL || r.Dst != nil && r.Dst.IP.IsLinkLocalUnicast()
	})
}

func TestKernelReportsDADConflict(t *testing.T) {
	k := enterNetns(t)
	l, peer := addVeth(t, k, "wlan0", "lan0")
	addAddr(t, k, peer, clatAddr.String()+"/64", unix.IFA_F_NODAD)
	must(t, k.AddCLATAddr(l.Attrs().Index, clatAddr, false))
	waitAddr(t, k, l.Attrs().Index, clatAddr, func(a plan.Addr) bool { return a.DADFailed })
}

func TestKernelIPv6SwitchedOff(t *testing.T) {
	k := enterNetns(t)
	l, _ := addVeth(t, k, "wlan0", "lan0")
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/wlan0/disable_ipv6", []byte("1"), 0))
	if err := k.AddCLATAddr(l.Attrs().Index, clatAddr, false); !errors.Is(err, plan.ErrIPv6Off) {
		t.Errorf("error %v", err)
	}
}

func TestKernelObservesLinks(t *testing.T) {
	k := enterNetns(t)
	l, peer := addVeth(t, k, "wlan0", "lan0")
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	must(t, k.kernel.handle.LinkAdd(bridge))
	must(t, k.kernel.handle.LinkSetMaster(peer, bridge))
	addAddr(t, k, l, "2001:db8:1::10/64", unix.IFA_F_NODAD)
	// The kernel sets it anew when the link gets its carrier.
	for end := time.Now().Add(60 * time.Second); byName(t, k, "wlan0").Attrs().OperState != netlink.OperUp && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/wlan0/mtu", []byte("1400"), 0))
	d, err := tun.Open("tun0", 1)
	must(t, err)
	defer d.Close()

	o := observe(t, k)
	type seen struct {
		kind               string
		up, loopback, port bool
		mtu                int
		mtu6               plan.MTU6
	}
	want := map[string]seen{
		"lo":    {kind: "", loopback: true, mtu: 65536},
		"wlan0": {kind: "veth", up: true, mtu: 1500, mtu6: 1400},
		"lan0":  {kind: "veth", up: true, port: true, mtu: 1500},
		"br0":   {kind: "bridge", mtu: 1500},
		"tun0":  {kind: "tun", mtu: 1500},
	}
	if len(o.Links) != len(want) {
		t.Errorf("links: %+v", o.Links)
	}
	for _, l := range o.Links {
		if got := (seen{l.Kind, l.Up, l.Loopback, l.BridgePort, l.MTU, l.MTU6}); got != want[l.Name] {
			t.Errorf("%s: got %+v, want %+v", l.Name, got, want[l.Name])
		}
	}
}

// Default routes of every shape.
func TestKernelObservesDefaultRoutes(t *testing.T) {
	k := enterNetns(t)
	l, peer := addVeth(t, k, "wlan0", "lan0")
	a, b := l.Attrs().Index, peer.Attrs().Index
	addAddr(t, k, l, "192.0.2.2/24", 0)
	addAddr(t, k, peer, "198.51.100.2/24", 0)
	addAddr(t, k, l, "2001:db8:1::10/64", unix.IFA_F_NODAD)
	zero := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	zero6 := &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	gw := func(s string) net.IP { return net.ParseIP(s) }
	for _, r := range []*netlink.Route{
		{Dst: zero, LinkIndex: a, Gw: gw("192.0.2.1"), Priority: 100, Protocol: 16},
		{Dst: zero, LinkIndex: b, Scope: netlink.SCOPE_LINK, Priority: 200},
		{Dst: zero, LinkIndex: a, Scope: netlink.SCOPE_LINK, Table: 100},
		{Dst: zero, Priority: 300, MultiPath: []*netlink.NexthopInfo{{LinkIndex: a, Gw: gw("192.0.2.3")}, {LinkIndex: b, Gw: gw("198.51.100.3")}}},
		{Dst: zero, LinkIndex: a, Priority: 400, Via: &netlink.Via{AddrFamily: unix.AF_INET6, Addr: gw("2001:db8:1::1")}},
		{Dst: zero, Type: unix.RTN_UNREACHABLE, Priority: 500},
		{Dst: &net.IPNet{IP: net.IPv4(10, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}, LinkIndex: a, Gw: gw("192.0.2.1")},
		{Dst: zero6, LinkIndex: a, Gw: gw("2001:db8:1::1"), Priority: 1024, MTU: 1400},
		{Dst: zero6, Type: unix.RTN_UNREACHABLE, Priority: 2000},
	} {
		must(t, k.kernel.handle.RouteAdd(r))
	}
	addr := netip.MustParseAddr
	want := []plan.Route{
		{Link: a, Gateway: addr("192.0.2.1"), Metric: 100, Table: plan.TableMain, Protocol: 16},
		{Link: b, Metric: 200, Table: plan.TableMain, Protocol: 3},
		{Link: a, Table: 100, Protocol: 3},
		{Link: a, Gateway: addr("192.0.2.3"), Metric: 300, Table: plan.TableMain, Protocol: 3},
		{Link: b, Gateway: addr("198.51.100.3"), Metric: 300, Table: plan.TableMain, Protocol: 3},
		{Link: a, Gateway: addr("2001:db8:1::1"), Metric: 400, Table: plan.TableMain, Protocol: 3},
		{Link: a, IPv6: true, Gateway: addr("2001:db8:1::1"), Metric: 1024, MTU: 1400, Table: plan.TableMain, Protocol: 3},
	}
	got := observe(t, k).Routes
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("missing %+v", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d routes, want %d: %+v", len(got), len(want), got)
	}
}

func TestKernelTUNAndRoute(t *testing.T) {
	k := enterNetns(t)
	uplink, _ := addVeth(t, k, "eth0", "peer0")
	addAddr(t, k, uplink, "192.0.2.2/24", 0)
	zero := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	native := &netlink.Route{Dst: zero, LinkIndex: uplink.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1), Priority: 2048}
	must(t, k.kernel.handle.RouteAdd(native))

	d, err := tun.Open("clat0", 2)
	must(t, err)
	defer d.Close()
	want := plan.TUNLink{Index: d.Index, Alias: plan.AliasPrefix + "wlan0", MTU: 1400, QueueLen: 777, IPv4: netip.MustParseAddr("192.0.0.1")}
	must(t, k.SetTUN(want))
	must(t, k.SetTUN(want))
	o := observe(t, k)
	if !want.Matches(o) {
		t.Errorf("the TUN is not as it should be: %+v %+v", o.Links, o.Addrs)
	}
	if got := byName(t, k, "clat0").Attrs().TxQLen; got != 777 {
		t.Errorf("queue length %d", got)
	}
	for _, a := range o.Addrs {
		if a.Link == d.Index && a.Prefix.Addr().Is6() {
			t.Errorf("it has generated an address: %s", a.Prefix)
		}
	}

	// Somebody removes the kernel's own route for the address.
	must(t, k.kernel.handle.RouteDel(localRoute(d.Index, want.IPv4)))
	if o := observe(t, k); want.Matches(o) {
		t.Error("the TUN is believed to be as it should be without its local route")
	}
	must(t, k.SetTUN(want))
	if o := observe(t, k); !want.Matches(o) {
		t.Errorf("the TUN is not as it should be: %+v", o.Addrs)
	}

	// A native default route of the same metric stays and goes first.
	ours := plan.Route{Link: d.Index, Source: want.IPv4, Metric: 2048, MTU: 1380, Table: plan.TableMain, Protocol: plan.Protocol}
	must(t, k.AddRoute(ours))
	must(t, k.AddRoute(ours))
	if o = observe(t, k); !slices.Contains(o.Routes, ours) || len(o.Routes) != 2 {
		t.Errorf("routes %+v", o.Routes)
	}
	if r, err := k.kernel.handle.RouteGet(net.IPv4(203, 0, 113, 1)); err != nil || r[0].LinkIndex != uplink.Attrs().Index {
		t.Errorf("the native route no longer goes first: %v %v", r, err)
	}
	must(t, k.kernel.handle.RouteDel(native))
	if r, err := k.kernel.handle.RouteGet(net.IPv4(203, 0, 113, 1)); err != nil || r[0].LinkIndex != d.Index || !r[0].Src.Equal(net.IPv4(192, 0, 0, 1)) {
		t.Errorf("our route does not lead to the TUN: %v %v", r, err)
	}

	// MTU change: the new one first, then the old one away.
	next := ours
	next.MTU = 1260
	must(t, k.AddRoute(next))
	must(t, k.DelRoute(ours))
	must(t, k.DelRoute(ours))
	if o = observe(t, k); len(o.Routes) != 1 || o.Routes[0] != next {
		t.Errorf("routes %+v", o.Routes)
	}
}

// After a SIGKILL the address is found by the journal, or by the kernel's mark,
// and what belongs to others is left alone.
func TestCleanUp(t *testing.T) {
	k := enterNetns(t)
	l, _ := addVeth(t, k, "wlan0", "lan0")
	index := l.Attrs().Index
	foreign := netip.MustParseAddr("2001:db8:1::f0")
	for _, a := range []string{"2001:db8:1::10/64", "2001:db8:1::11/128"} {
		addAddr(t, k, l, a, unix.IFA_F_NODAD)
	}
	// As CLAT addresses look before Linux 5.18, when IFA_PROTO was not kept.
	addUnmarked := func(a netip.Addr) {
		must(t, k.kernel.handle.AddrAdd(l, &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD, ValidLft: infiniteLife, PreferedLft: 0}))
	}
	addUnmarked(foreign)
	noted := netip.MustParseAddr("2001:db8:1::c1a8")
	addUnmarked(noted)
	must(t, k.AddCLATAddr(index, clatAddr, false))

	path := filepath.Join(t.TempDir(), "run", "journal")
	j, err := clat.OpenJournal(path)
	must(t, err)
	must(t, j.Add("wlan0", noted))
	must(t, j.Add("wlan0", netip.MustParseAddr("2001:db8:1::10"))) // a lie: it does not look like one of ours
	must(t, j.Add("gone0", clatAddr))
	removed, _, err := clat.CleanUp(k, j)
	must(t, err)

	var got []string
	for _, r := range removed {
		got = append(got, r.Addr.String())
	}
	slices.Sort(got)
	want := []string{clatAddr.String(), noted.String()}
	if e, _ := observe(t, k).Addr(index, clatAddr); e.Prefix.IsValid() {
		if keepsProto(t, k, index) {
			t.Error("the marked address is still there")
		}
		want = want[1:]
	}
	if !slices.Equal(got, want) {
		t.Errorf("removed %v, want %v", got, want)
	}
	o := observe(t, k)
	for _, a := range []string{"2001:db8:1::10", "2001:db8:1::11", foreign.String()} {
		if _, ok := o.Addr(index, netip.MustParseAddr(a)); !ok {
			t.Errorf("%s of somebody else is gone", a)
		}
	}
	if e := j.Entries(); len(e) != 0 {
		t.Errorf("the journal still has %v", e)
	}
	must(t, j.Close())
}

func keepsProto(t *testing.T, k *Host, index int) bool {
	probe := netip.MustParseAddr("2001:db8:1::ffff")
	must(t, k.AddCLATAddr(index, probe, false))
	e, _ := observe(t, k).Addr(index, probe)
	return e.Protocol == plan.Protocol
}

func TestWatch(t *testing.T) {
	k := enterNetns(t)
	l, _ := addVeth(t, k, "wlan0", "lan0")
	ctx, cancel := context.WithCancel(t.Context())
	calls := make(chan struct{}, 1000)
	must(t, Watch(ctx, func() { calls <- struct{}{} }))
	// untilQuiet counts the looks until there are no more.
	untilQuiet := func() (n int) {
		for {
			select {
			case <-calls:
				n++
			case <-time.After(2500 * time.Millisecond):
				return n
			}
		}
	}
	untilQuiet() // IPv6 on the new link settles first
	// A burst of a hundred changes is a handful of looks.
	begun := time.Now()
	for i := range 100 {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 0, 0, byte(i)), Mask: net.CIDRMask(24, 32)}}
		must(t, k.kernel.handle.AddrAdd(l, a))
	}
	select {
	case <-calls:
	case <-time.After(60 * time.Second):
		t.Fatal("a change was not reported")
	}
	most := 20 + int(time.Since(begun)/settle)
	if n := untilQuiet(); n > most {
		t.Errorf("%d looks for one burst, more than %d", n, most)
	}
	// Nothing happens, nothing is said.
	time.Sleep(4 * settle)
	if len(calls) > 0 {
		t.Error("a look without a change")
	}
	cancel()
	time.Sleep(settle)
	addAddr(t, k, l, "10.1.0.1/24", 0)
	time.Sleep(2 * settle)
	if len(calls) > 0 {
		t.Error("it goes on after its end")
	}
}
