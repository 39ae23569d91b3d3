package steer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/siit"
)

var (
	otherRouter    = netip.MustParseAddr("fe80::99")
	otherRouterMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
)

// insideLab is an order lab with a second router on the uplink.
func insideLab(t *testing.T, attach Attach) (*lab, *Steering) {
	t.Helper()
	l, s := newOrderLab(t, attach, 2)
	err := l.laptop.nl.NeighAdd(&netlink.Neigh{
		LinkIndex: l.laptop.index(t, l.uplink), IP: otherRouter.AsSlice(), HardwareAddr: otherRouterMAC, State: unix.NUD_PERMANENT,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

func prefixNet(p string) *net.IPNet {
	_, n, err := net.ParseCIDR(p)
	if err != nil {
		panic(err)
	}
	return n
}

// RoutesInside says what the kernel does with packets to parts of PREF64.
func TestRoutesInside(t *testing.T) {
	l, _ := insideLab(t, Auto)
	company, branch := netip.MustParsePrefix("2001:db8:c::/96"), netip.MustParsePrefix("2001:db8:d::/96") // of networks
	up := l.laptop.index(t, l.uplink)
	other := newHost(t)
	connect(t, l.laptop, "up1", other, "rt1")
	up1 := l.laptop.index(t, "up1")
	l.laptop.addr(t, "up1", "2001:db8:2::2/64")
	router1 := netip.MustParseAddr("2001:db8:2::1")
	twoLinks := Route{Prefix: netip.MustParsePrefix("64:ff9b::909:900/124"), Action: RouteGateway} // by either link
	inside := func() []Route {
		t.Helper()
		var rs []Route
		l.laptop.do(t, func() (err error) {
			rs, _, err = RoutesInside(l.laptop.nl, l.tun.index, clat6, siit.WellKnownPrefix(), []netip.Prefix{company, branch})
			return err
		})
		for i := range rs {
			rs[i].linkHeader = false
			if rs[i].Action == RouteKernelHop && rs[i].Gateway.IsValid() {
				rs[i].Gateway = netip.Addr{} // any of them
			}
			if via, onUp1 := rs[i].Gateway, rs[i].Link == up1; rs[i].Prefix == twoLinks.Prefix && (!onUp1 && via == otherRouter || onUp1 && via == router1) {
				rs[i] = twoLinks
			}
		}
		return rs
	}
	p := netip.MustParsePrefix
	// A route or a rule to more than PREF64 counts for all of it, but a default route.
	whole := []Route{{Prefix: p("64:ff9b::/96"), Action: RouteUnreachable}}
	for _, dst := range []string{"64:ff9b::/96", "64:ff9b::/48"} {
		reject := netlink.Route{Dst: prefixNet(dst), Type: unix.RTN_UNREACHABLE}
		l.laptop.route(t, reject)
		if rs := inside(); !slices.Equal(rs, whole) {
			t.Errorf("with an unreachable %s: %+v, want %+v", dst, rs, whole)
		}
		if err := l.laptop.nl.RouteDel(&reject); err != nil {
			t.Fatal(err)
		}
		rule := netlink.NewRule()
		rule.Family, rule.Type, rule.Priority, rule.Dst = netlink.FAMILY_V6, unix.RTN_UNREACHABLE, 100, prefixNet(dst)
		l.laptop.rule(t, rule)
		if rs := inside(); !slices.Equal(rs, whole) {
			t.Errorf("with a rule that %s is unreachable: %+v, want %+v", dst, rs, whole)
		}
		if err := l.laptop.nl.RuleDel(rule); err != nil {
			t.Fatal(err)
		}
	}
	if rs := inside(); len(rs) != 0 {
		t.Errorf("routes inside PREF64: %+v", rs)
	}
	gw := otherRouter.AsSlice()
	for _, r := range []netlink.Route{
		{Dst: prefixNet("64:ff9b::cb00:7100/120"), LinkIndex: up, Gw: gw},
		{Dst: prefixNet("64:ff9b::cb00:7100/121"), Type: unix.RTN_UNREACHABLE},
		{Dst: prefixNet("64:ff9b::cb00:7180/121"), Type: unix.RTN_PROHIBIT},
		{Dst: prefixNet("64:ff9b::c633:6400/120"), Type: unix.RTN_BLACKHOLE},
		{Dst: prefixNet("64:ff9b::c000:200/120"), LinkIndex: up},
		{Dst: prefixNet("64:ff9b::c000:201/128"), LinkIndex: up1, Gw: net.ParseIP("2001:db8:2::1")},
		{Dst: prefixNet("64:ff9b::808:800/120"), MultiPath: []*netlink.NexthopInfo{{LinkIndex: up, Gw: gw}, {LinkIndex: up, Gw: router6.AsSlice()}}},
		// The kernel cannot be left to choose among next hops on two links.
		{Dst: prefixNet("64:ff9b::909:900/124"), MultiPath: []*netlink.NexthopInfo{{LinkIndex: up, Gw: gw}, {LinkIndex: up1, Gw: net.ParseIP("2001:db8:2::1")}}},
		// Of two metrics the lower counts, and a table only where a rule leads to it.
		{Dst: prefixNet("64:ff9b::101:100/120"), LinkIndex: up, Gw: gw, Priority: 2000},
		{Dst: prefixNet("64:ff9b::101:100/120"), Type: unix.RTN_UNREACHABLE, Priority: 3000},
		{Dst: prefixNet("64:ff9b::404:400/120"), Type: unix.RTN_UNREACHABLE, Table: 1000},
		// Where a rule leads to a default route.
		{Dst: prefixNet("::/0"), LinkIndex: up, Gw: gw, Table: 1001, MTU: 1400},
		// A network's prefix may be reached by a route to more, but a default route.
		{Dst: prefixNet("2001:db8:c::/48"), LinkIndex: up, Gw: gw},
		{Dst: prefixNet("2001:db8:c::808:800/120"), Type: unix.RTN_UNREACHABLE},
		{Dst: prefixNet("2000::/3"), LinkIndex: up, Gw: gw},
		// What is behind a PLAT is not on the link, whatever a station advertises, but
		// a network of explicit mappings can be.
		{Dst: prefixNet("64:ff9b::909:900/120"), LinkIndex: up, Protocol: unix.RTPROT_KERNEL},
		{Dst: prefixNet("64:ff9b::a0a:a00/120"), LinkIndex: up, Protocol: unix.RTPROT_RA},
		{Dst: prefixNet("2001:db8:d::/96"), LinkIndex: up, Protocol: unix.RTPROT_KERNEL},
		// No business of PREF64's.
		{Dst: prefixNet("64:ff9b:1::/48"), Type: unix.RTN_UNREACHABLE},
	} {
		l.laptop.route(t, r)
	}
	for _, dst := range []string{"64:ff9b::606:600/120", "64:ff9b::606:606/128"} {
		rule := netlink.NewRule()
		rule.Family, rule.Table, rule.Priority, rule.Dst = netlink.FAMILY_V6, 1001, 200, prefixNet(dst)
		if dst == "64:ff9b::606:606/128" {
			rule.Table, rule.Type, rule.Priority = 0, unix.RTN_BLACKHOLE, 199
		}
		l.laptop.rule(t, rule)
	}
	if err := l.laptop.nl.LinkSetMTU(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: up1}}, 1300); err != nil {
		t.Fatal(err)
	}
	want := []Route{
		{Prefix: p("64:ff9b::606:606/128"), Action: RouteBlackhole},
		{Prefix: p("64:ff9b::c000:201/128"), Action: RouteGateway, Link: up1, Gateway: netip.MustParseAddr("2001:db8:2::1"), MTU: 1300},
		twoLinks,
		{Prefix: p("64:ff9b::cb00:7100/121"), Action: RouteUnreachable},
		{Prefix: p("64:ff9b::cb00:7180/121"), Action: RouteProhibit},
		{Prefix: p("64:ff9b::101:100/120"), Action: RouteGateway, Link: up, Gateway: otherRouter, MTU: 1500},
		{Prefix: p("64:ff9b::404:400/120"), Action: RouteGateway, Link: up, Gateway: router6, MTU: 1500},
		{Prefix: p("64:ff9b::606:600/120"), Action: RouteGateway, Link: up, Gateway: otherRouter, MTU: 1400},
		{Prefix: p("64:ff9b::808:800/120"), Action: RouteKernelHop, Link: up, MTU: 1500},
		{Prefix: p("64:ff9b::c000:200/120"), Action: RouteOnLink, Link: up, MTU: 1500},
		{Prefix: p("64:ff9b::c633:6400/120"), Action: RouteBlackhole},
		{Prefix: p("2001:db8:c::808:800/120"), Action: RouteUnreachable},
		{Prefix: p("2001:db8:c::/96"), Action: RouteGateway, Link: up, Gateway: otherRouter, MTU: 1500},
		{Prefix: p("2001:db8:d::/96"), Action: RouteOnLink, Link: up, MTU: 1500},
	}
	if got := inside(); !slices.Equal(got, want) {
		t.Errorf("routes inside PREF64:\n%+v, want\n%+v", got, want)
	}
	rule := netlink.NewRule()
	rule.Family, rule.Table, rule.Priority, rule.Src = netlink.FAMILY_V6, 1000, 100, &net.IPNet{IP: clat6.AsSlice(), Mask: net.CIDRMask(128, 128)}
	l.laptop.rule(t, rule)
	at := slices.IndexFunc(want, func(r Route) bool { return r.Prefix == p("64:ff9b::404:400/120") })
	want[at] = Route{Prefix: want[at].Prefix, Action: RouteUnreachable}
	if got := inside(); !slices.Equal(got, want) {
		t.Errorf("with a rule:\n%+v, want\n%+v", got, want)
	}
}

// TestRoutesInsideByNexthop has routes inside PREF64 by nexthop objects. The kernel
// tells their next hops with the routes, or, where nexthop_compat_mode is 0, not.
func TestRoutesInsideByNexthop(t *testing.T) {
	for mode, group := range map[string]RouteAction{"1": RouteKernelHop, "0": RouteGateway} {
		t.Run("nexthop_compat_mode "+mode, func(t *testing.T) {
			l, _ := insideLab(t, Auto)
			var rs []Route
			l.laptop.do(t, func() error {
				if err := os.WriteFile("/proc/sys/net/ipv4/nexthop_compat_mode", []byte(mode), 0); err != nil {
					return err
				}
				for _, line := range []string{
					"-6 nexthop add id 1 via " + otherRouter.String() + " dev " + l.uplink, "-6 nexthop add id 2 via " + router6.String() + " dev " + l.uplink,
					"nexthop add id 3 group 1/2", "-6 nexthop add id 4 blackhole",
					"-6 route add 64:ff9b::cb00:7100/120 nhid 1", "-6 route add 64:ff9b::808:800/120 nhid 3", "-6 route add 64:ff9b::c633:6400/120 nhid 4",
				} {
					if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
						return fmt.Errorf("ip %s: %w: %s", line, err, out)
					}
				}
				var err error
				rs, _, err = RoutesInside(l.laptop.nl, l.tun.index, clat6, siit.WellKnownPrefix(), nil)
				return err
			})
			up := l.laptop.index(t, l.uplink)
			want := []Route{
				{Prefix: netip.MustParsePrefix("64:ff9b::808:800/120"), Action: group, Link: up, Gateway: rs[0].Gateway, MTU: 1500, linkHeader: true},
				{Prefix: netip.MustParsePrefix("64:ff9b::c633:6400/120"), Action: RouteBlackhole},
				{Prefix: netip.MustParsePrefix("64:ff9b::cb00:7100/120"), Action: RouteGateway, Link: up, Gateway: otherRouter, MTU: 1500, linkHeader: true},
			}
			if !rs[0].Gateway.IsValid() || !slices.Equal(rs, want) {
				t.Errorf("routes inside PREF64:\n%+v, want\n%+v", rs, want)
			}
		})
	}
}

// Packets go where the routes inside PREF64 say, whichever engine translates them.
func TestFollowRoutes(t *testing.T) {
	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			l, s := insideLab(t, attach)
			up := l.laptop.index(t, l.uplink)
			dst := netip.MustParseAddr("203.0.113.9")
			dst6 := embedWKP(dst)
			c := l.laptop.socket(t, "udp4", netip.AddrPortFrom(clat4, 0))
			control(t, c, func(fd int) error {
				return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
			})
			// sends reports to which MAC address a datagram goes that each engine translates.
			sends := func() (macs []string) {
				t.Helper()
				for _, size := range []int{10, 1400} {
					w := l.router.wire(t, "rt0")
					if _, err := c.WriteToUDPAddrPort(make([]byte, size), netip.AddrPortFrom(dst, 9)); err != nil {
						t.Fatal(err)
					}
					f, ok := w.next(t, brief, func(f frame) bool { return isIPv6(f.ip()) && destination(f.ip()) == dst6 })
					mac := "none"
					if ok {
						mac = net.HardwareAddr(f.data[:6]).String()
					}
					macs = append(macs, mac)
					unix.Close(w.fd)
					w.fd = -1
				}
				return macs
			}
			set := func(rs ...Route) {
				t.Helper()
				for i := range rs {
					rs[i].linkHeader = true
				}
				if err := s.SetRoutes(rs); err != nil {
					t.Fatal(err)
				}
			}
			check := func(what string, want string) {
				t.Helper()
				// The neighbours must be found first.
				deadline := time.Now().Add(patience)
				for {
					got := sends()
					if slices.Equal(got, []string{want, want}) {
						return
					}
					if time.Now().After(deadline) {
						t.Errorf("%s: datagrams go to %v, want %s", what, got, want)
						return
					}
				}
			}
			p := netip.MustParsePrefix
			check("no routes", l.routerMAC.String())
			set(Route{Prefix: p("64:ff9b::cb00:7100/120"), Action: RouteGateway, Link: up, Gateway: otherRouter})
			check("another router", otherRouterMAC.String())
			declined := engineCounters(t, s).To6.Declined[DeclinedSize]
			set(Route{Prefix: p("64:ff9b::cb00:7100/120"), Action: RouteGateway, Link: up, Gateway: otherRouter, MTU: 1290})
			if _, err := c.WriteToUDPAddrPort(make([]byte, 1232), netip.AddrPortFrom(dst, 9)); err != nil { // 1280 bytes of IPv6
				t.Fatal(err)
			}
			if n := engineCounters(t, s).To6.Declined[DeclinedSize]; n != declined {
				t.Error("the kernel engine has declined what fits the MTU of a route")
			}
			control(t, c, func(fd int) error {
				return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE) // DF, whatever the MTU
			})
			if _, err := c.WriteToUDPAddrPort(make([]byte, 1243), netip.AddrPortFrom(dst, 9)); err != nil {
				t.Fatal(err)
			}
			if n := engineCounters(t, s).To6.Declined[DeclinedSize]; n != declined+1 {
				t.Errorf("the kernel engine has declined %d packets that exceed the MTU of a route, want 1", n-declined)
			}
			control(t, c, func(fd int) error {
				return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
			})
			set(Route{Prefix: p("64:ff9b::cb00:7100/120"), Action: RouteGateway, Link: up, Gateway: otherRouter},
				Route{Prefix: p("64:ff9b::cb00:7109/128"), Action: RouteKernelHop, Link: up})
			check("a more specific one", l.routerMAC.String())
			set(Route{Prefix: p("64:ff9b::cb00:7109/128"), Action: RouteUnreachable})
			before := counters(t, s).Dropped[RejectedRoute]
			check("unreachable", "none")
			if n := counters(t, s).Dropped[RejectedRoute] - before; n == 0 {
				t.Error("what user space writes to an unreachable destination is not counted")
			}
			if n := engineCounters(t, s).To6.Declined[DeclinedRoute]; n == 0 {
				t.Error("the kernel engine has declined nothing")
			}
			// As if the destination were on the link.
			err := l.laptop.nl.NeighAdd(&netlink.Neigh{LinkIndex: up, IP: dst6.AsSlice(), HardwareAddr: otherRouterMAC, State: unix.NUD_PERMANENT})
			if err != nil && !errors.Is(err, unix.EEXIST) {
				t.Fatal(err)
			}
			set(Route{Prefix: p("64:ff9b::cb00:7109/128"), Action: RouteOnLink, Link: up})
			check("on the link", otherRouterMAC.String())
			set()
			check("no routes again", l.routerMAC.String())
		})
	}
}
