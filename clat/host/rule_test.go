package host

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/siit"
	"tnat64d/tun"
)

// openCLAT makes a TUN with the address of a CLAT.
func openCLAT(t *testing.T, k *Host, name, address string) (*tun.Device, plan.TUNLink) {
	t.Helper()
	d, err := tun.Open(name, 1)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	l := plan.TUNLink{Index: d.Index, Alias: plan.AliasPrefix + "wlan0", MTU: 1500, IPv4: netip.MustParseAddr(address)}
	must(t, k.SetTUN(l))
	return d, l
}

// leadsFrom returns the link by which packets from src leave.
func leadsFrom(k *Host, src netip.Addr) (int, error) {
	rs, err := k.kernel.handle.RouteGetWithOptions(net.IPv4(203, 0, 113, 1), &netlink.RouteGetOptions{SrcAddr: src.AsSlice()})
	if err != nil {
		return 0, err
	}
	return rs[0].LinkIndex, nil
}

func TestKernelSourceRules(t *testing.T) {
	k := enterNetns(t)
	eth, _ := addVeth(t, k, "eth0", "peer0")
	addAddr(t, k, eth, "192.0.2.2/24", 0)
	zero := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	must(t, k.kernel.handle.RouteAdd(&netlink.Route{Dst: zero, LinkIndex: eth.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1)}))
	foreign := netlink.NewRule()
	foreign.Family, foreign.Priority, foreign.Table, foreign.Src = unix.AF_INET, 100, 100, &net.IPNet{IP: net.IPv4(10, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}
	must(t, k.kernel.handle.RuleAdd(foreign))

	_, l0 := openCLAT(t, k, "clat0", "192.0.0.1")
	d1, l1 := openCLAT(t, k, "clat1", "192.0.0.3")
	for i, l := range []plan.TUNLink{l0, l1} {
		main := plan.Route{Link: l.Index, Source: l.IPv4, Metric: 2048 + i, MTU: 1480, Table: plan.TableMain, Protocol: plan.Protocol}
		must(t, k.AddRoute(main))
		if via, err := leadsFrom(k, l.IPv4); err != nil || via != eth.Attrs().Index {
			t.Errorf("this test proves nothing: %d %v", via, err)
		}
		own := plan.SourceRuleFor(l.IPv4, 32765).Route(main)
		rule := plan.SourceRuleFor(l.IPv4, 32765)
		for range 2 { // twice is once
			must(t, k.AddRoute(own))
			must(t, k.AddSourceRule(rule))
		}
		o := observe(t, k)
		if !slices.Contains(o.Rules, rule) || len(o.Rules) != i+1 || !slices.Contains(o.Routes, own) {
			t.Errorf("rules %v, routes %+v", o.Rules, o.Routes)
		}
		if via, err := leadsFrom(k, l.IPv4); err != nil || via != l.Index {
			t.Errorf("packets from %s leave by %d, %v", l.IPv4, via, err)
		}
		if o.NativeIPv4(l.Index) {
			t.Error("our own route is native IPv4")
		}
	}
	// Without a choice of source the native route goes first, as before.
	if rs, err := k.kernel.handle.RouteGet(net.IPv4(203, 0, 113, 1)); err != nil || rs[0].LinkIndex != eth.Attrs().Index {
		t.Errorf("native: %v %v", rs, err)
	}

	// Held: nothing may leave by another link, and programs hear it at once.
	own := plan.SourceRuleFor(l0.IPv4, 32765).Route(plan.Route{Link: l0.Index, Source: l0.IPv4, MTU: 1480, Protocol: plan.Protocol})
	must(t, k.DelRoute(own))
	if via, err := leadsFrom(k, l0.IPv4); !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("held, and packets leave by %d, %v", via, err)
	}
	// Another program removes half of it, which is as good as nothing.
	must(t, k.kernel.handle.RouteDel(unreachable(plan.SourceRuleFor(l0.IPv4, 32765))))
	if o := observe(t, k); slices.Contains(o.Rules, plan.SourceRuleFor(l0.IPv4, 32765)) {
		t.Error("the rule is believed to be complete")
	}
	must(t, k.AddSourceRule(plan.SourceRuleFor(l0.IPv4, 32765)))
	for range 2 {
		must(t, k.DelSourceRule(plan.SourceRuleFor(l0.IPv4, 32765)))
	}
	if o := observe(t, k); len(o.Rules) != 1 {
		t.Errorf("rules %v", o.Rules)
	}

	d1.Close() // as a kill does; the rule stays
	_, _, err := clat.CleanUp(k, nil)
	must(t, err)
	rules, err := k.kernel.handle.RuleList(unix.AF_INET)
	must(t, err)
	left, err := k.unreachables(unix.RT_TABLE_UNSPEC)
	must(t, err)
	if len(rules) != 4 || len(left) != 0 {
		t.Errorf("left behind: rules %v, routes %v", rules, left)
	}
}

// TestSourceRulePriority moves the rule of a CLAT before the rule that leads to
// another table, and back.
func TestSourceRulePriority(t *testing.T) {
	k := enterNetns(t)
	eth, _ := addVeth(t, k, "eth0", "peer0")
	addAddr(t, k, eth, "192.0.2.2/24", 0)
	_, l := openCLAT(t, k, "clat0", "192.0.0.1")
	main := plan.Route{Link: l.Index, Source: l.IPv4, Metric: 2048, MTU: 1480, Table: plan.TableMain, Protocol: plan.Protocol}
	must(t, k.AddRoute(main))
	ip(t, "route add default via 192.0.2.1 table 1234; rule add pref 1 lookup 1234")
	must(t, k.AddRoute(plan.SourceRuleFor(l.IPv4, 0).Route(main)))
	for _, c := range []struct {
		priority int
		ours     bool
	}{{32765, false}, {0, true}, {1, false}, {0, true}, {32765, false}} {
		r := plan.SourceRuleFor(l.IPv4, c.priority)
		for range 2 {
			must(t, k.AddSourceRule(r))
		}
		if o := observe(t, k); len(o.Rules) != 1 || o.Rules[0] != r {
			t.Errorf("priority %d: rules %v", c.priority, o.Rules)
		}
		if via, err := leadsFrom(k, l.IPv4); err != nil || (via == l.Index) != c.ours {
			t.Errorf("priority %d: packets leave by %d, %v", c.priority, via, err)
		}
	}
	must(t, k.DelSourceRule(plan.SourceRuleFor(l.IPv4, 7)))
	if o := observe(t, k); len(o.Rules) != 0 {
		t.Errorf("rules %v", o.Rules)
	}
}

// With strict reverse path filtering replies reach a CLAT beside native IPv4:
// the rule counts for that question as well.
func TestKernelSourceRuleBesideStrictFilter(t *testing.T) {
	k := enterNetns(t)
	eth, _ := addVeth(t, k, "eth0", "peer0")
	addAddr(t, k, eth, "192.0.2.2/24", 0)
	zero := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	must(t, k.kernel.handle.RouteAdd(&netlink.Route{Dst: zero, LinkIndex: eth.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1)}))
	d, l := openCLAT(t, k, "clat0", "192.0.0.1")
	must(t, os.WriteFile("/proc/sys/net/ipv4/conf/clat0/rp_filter", []byte("1"), 0))
	main := plan.Route{Link: l.Index, Source: l.IPv4, Metric: 2048, MTU: 1480, Table: plan.TableMain, Protocol: plan.Protocol}
	must(t, k.AddRoute(main))

	conn, err := net.ListenPacket("udp4", "192.0.0.1:0")
	must(t, err)
	defer conn.Close()
	port := conn.LocalAddr().(*net.UDPAddr).Port
	arrives := func(wait time.Duration) bool {
		t.Helper()
		must(t, writeUDP(d, netip.MustParseAddr("203.0.113.1"), l.IPv4, port))
		conn.SetReadDeadline(time.Now().Add(wait))
		_, _, err := conn.ReadFrom(make([]byte, 100))
		return err == nil
	}
	if arrives(300 * time.Millisecond) {
		t.Error("this test proves nothing: the filter does not filter")
	}
	must(t, k.AddRoute(plan.SourceRuleFor(l.IPv4, 32765).Route(main)))
	must(t, k.AddSourceRule(plan.SourceRuleFor(l.IPv4, 32765)))
	if !arrives(60 * time.Second) {
		t.Error("a reply is still dropped")
	}
}

// writeUDP lets a datagram without payload arrive from the TUN.
func writeUDP(d *tun.Device, src, dst netip.Addr, port int) error {
	p := make([]byte, 28)
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], 28)
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(p[10:], ^siit.Sum(p[:20], 0))
	binary.BigEndian.PutUint16(p[20:], 53)
	binary.BigEndian.PutUint16(p[22:], uint16(port))
	binary.BigEndian.PutUint16(p[24:], 8)
	buf := make([]byte, tun.VnetHeaderLen+len(p))
	copy(buf[tun.VnetHeaderLen:], p)
	return d.Queues[0].Write(buf, tun.VnetHeaderLen, tun.VnetHeader{})
}

// dialFrom connects a socket of the test's namespace.
func dialFrom(t *testing.T, network, local, remote string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 60 * time.Second}
	if network[:3] == "tcp" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(local))
	} else {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local))
	}
	c, err := d.DialContext(context.Background(), network, remote)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestKernelAbortFlows(t *testing.T) {
	k := enterNetns(t)
	lo := byName(t, k, "lo")
	must(t, k.kernel.handle.LinkSetUp(lo))
	for _, a := range []string{"192.0.0.1/32", "192.0.0.3/32", "203.0.113.1/32"} {
		addAddr(t, k, lo, a, 0)
	}
	clat := netip.MustParseAddr("192.0.0.1")
	server, err := net.Listen("tcp4", "203.0.113.1:0")
	must(t, err)
	defer server.Close()
	remote := server.Addr().String()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	if n, err := k.AbortFlows(clat, nil); n != 0 || err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip("needs CONFIG_INET_DIAG_DESTROY: ", err)
		}
		t.Errorf("%d aborted, %v", n, err)
	}

	listener, err := net.Listen("tcp4", "192.0.0.1:0")
	must(t, err)
	defer listener.Close()
	unconnected, err := net.ListenPacket("udp4", "192.0.0.1:0")
	must(t, err)
	defer unconnected.Close()
	end := map[string]net.Conn{
		"TCP": dialFrom(t, "tcp4", "192.0.0.1:0", remote),
		"UDP": dialFrom(t, "udp4", "192.0.0.1:0", "203.0.113.1:53"),
		// As Java and many a proxy do it: an IPv6 socket with a mapped address.
		"TCP of an IPv6 socket": dialMapped(t, clat, server.Addr().(*net.TCPAddr).AddrPort()),
	}
	stay := map[string]net.Conn{
		"TCP of another CLAT": dialFrom(t, "tcp4", "192.0.0.3:0", remote),
		"UDP of another CLAT": dialFrom(t, "udp4", "192.0.0.3:0", "203.0.113.1:53"),
	}
	for range 3 {
		defer (<-accepted).Close()
	}
	if !k.Connected(clat) {
		t.Error("nobody is connected")
	}
	n, err := k.AbortFlows(clat, nil)
	if n != len(end) || err != nil {
		t.Errorf("%d aborted, %v", n, err)
	}
	for name, c := range end {
		c.SetReadDeadline(time.Now().Add(60 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range stay {
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Listening sockets go on.
	dialFrom(t, "tcp4", "203.0.113.1:0", listener.Addr().String())
	unconnected.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, _, err := unconnected.ReadFrom(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("unconnected UDP: %v", err)
	}
	// The connection to the listener has its local address too: a server's.
	if n, err := k.AbortFlows(clat, nil); n != 1 || err != nil {
		t.Errorf("%d aborted the second time, %v", n, err)
	}
	if n, err := k.AbortFlows(clat, nil); n != 0 || err != nil {
		t.Errorf("%d aborted the third time, %v", n, err)
	}
	if k.Connected(clat) {
		t.Error("somebody is still connected, and be it by a listening socket")
	}
}

// dialMapped connects an IPv6 socket between IPv4-mapped addresses.
func dialMapped(t *testing.T, local netip.Addr, remote netip.AddrPort) net.Conn {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	must(t, err)
	must(t, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0))
	must(t, unix.Bind(fd, &unix.SockaddrInet6{Addr: local.As16()}))
	must(t, unix.Connect(fd, &unix.SockaddrInet6{Addr: remote.Addr().As16(), Port: int(remote.Port())}))
	f := os.NewFile(uintptr(fd), "mapped")
	defer f.Close()
	c, err := net.FileConn(f)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}
