package steer

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel gives the routes of the uplink only, and those that have other links
// too.
func TestRoutesTo(t *testing.T) {
	needsRoot(t)
	h := newHost(t)
	up, other := h.tun(t, "up0"), h.tun(t, "other0")
	for i := range 1000 {
		prefix := &net.IPNet{IP: net.IP{0x20, 0x01, 0x0d, 0xb8, byte(i >> 8), byte(i), 15: 0}, Mask: net.CIDRMask(48, 128)}
		h.route(t, netlink.Route{LinkIndex: other.index, Dst: prefix})
	}
	h.route(t, netlink.Route{Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, Table: 1000, MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: other.index, Gw: net.ParseIP("fe80::1")}, {LinkIndex: up.index, Gw: net.ParseIP("fe80::2")},
	}})
	routes, err := routesTo(h.nl, up.index, plat6)
	if err != nil || len(routes) != 1 || routes[0].Table != 1000 {
		t.Errorf("routes %v, %v", routes, err)
	}
	if n := testing.AllocsPerRun(1, func() { routesTo(h.nl, up.index, plat6) }); n > 500 {
		t.Errorf("%v allocations", n)
	}
}

// A default route on another link that the host prefers must not decide where
// the CLAT's packets go: not by its device, and not by its router either.
func TestRouter(t *testing.T) {
	l := newLab(t)
	connect(t, l.laptop, "other0", l.router, "other1")
	other := netip.MustParseAddr("fe80::2")
	elsewhere := netip.MustParseAddr("2001:db8:2::1")
	l.laptop.addr(t, "other0", "2001:db8:2::10/64")
	onLink := netip.MustParseAddr("2001:db8:1::1")

	ask := func(dst netip.Addr) netip.Addr {
		t.Helper()
		router, err := Router(l.laptop.nl, l.laptop.index(t, l.uplink), clat6, dst, netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		return router
	}
	if got := ask(plat6); got != router6 {
		t.Errorf("the uplink has the only default route: router %s, want %s", got, router6)
	}
	second := netlink.Route{LinkIndex: l.laptop.index(t, l.uplink), Gw: net.ParseIP("fe80::2")}
	if err := l.laptop.nl.RouteAppend(&second); err != nil {
		t.Fatal(err)
	}
	if got := ask(plat6); got.IsValid() {
		t.Errorf("two routers, of which the kernel has to choose: router %s, want none", got)
	}
	if err := l.laptop.nl.RouteDel(&second); err != nil {
		t.Fatal(err)
	}

	// One route has next hops on both links: bpf_redirect_neigh would choose among all.
	if err := l.laptop.nl.RouteReplace(&netlink.Route{MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: l.laptop.index(t, "other0"), Gw: other.AsSlice()}, {LinkIndex: l.laptop.index(t, l.uplink), Gw: router6.AsSlice()},
		{LinkIndex: l.laptop.index(t, l.uplink), Gw: net.ParseIP("fe80::3")},
	}, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}); err != nil {
		t.Fatal(err)
	}
	for i := range 8 { // the kernel's choice depends on the destination
		dst := plat6.As16()
		dst[15] += byte(i)
		if got := ask(netip.AddrFrom16(dst)); got != router6 {
			t.Errorf("some next hops are on another link: router %s, want %s", got, router6)
		}
	}
	if err := l.laptop.nl.RouteReplace(&netlink.Route{
		LinkIndex: l.laptop.index(t, l.uplink), Gw: router6.AsSlice(), Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}); err != nil {
		t.Fatal(err)
	}

	preferred := netlink.Route{LinkIndex: l.laptop.index(t, "other0"), Gw: other.AsSlice(), Priority: 100}
	l.laptop.route(t, preferred)
	// Worse ones of the uplink.
	l.laptop.route(t, netlink.Route{LinkIndex: l.laptop.index(t, l.uplink), Gw: net.ParseIP("fe80::bad"), Priority: 4000})
	l.laptop.route(t, netlink.Route{LinkIndex: l.laptop.index(t, l.uplink), Gw: net.ParseIP("fe80::bad"), Table: 77, Priority: 3000})
	if got := ask(plat6); got != router6 {
		t.Errorf("the other link has the preferred default route: router %s, want %s", got, router6)
	}
	// Neighbour discovery would be for what is not there.
	if got := ask(onLink); got != router6 {
		t.Errorf("on the link, as a router advertisement says: router %s, want %s", got, router6)
	}
	static := netlink.Route{
		LinkIndex: l.laptop.index(t, l.uplink), Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC,
		Dst: &net.IPNet{IP: onLink.AsSlice(), Mask: net.CIDRMask(128, 128)},
	}
	l.laptop.route(t, static)
	if got := ask(onLink); got.IsValid() {
		t.Errorf("on the link, as the administrator says: router %s, want none", got)
	}
	if err := l.laptop.nl.RouteDel(&static); err != nil {
		t.Fatal(err)
	}

	// The router that advertises the PREF64, if the host has a default route by it.
	via := func(router netip.Addr) netip.Addr {
		t.Helper()
		got, err := Router(l.laptop.nl, l.laptop.index(t, l.uplink), clat6, plat6, router)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	bad := netip.MustParseAddr("fe80::bad")
	if got := via(bad); got != bad {
		t.Errorf("the PREF64 is from %s, which is not the best router: router %s", bad, got)
	}
	if got := via(netip.MustParseAddr("fe80::3")); got != router6 {
		t.Errorf("the PREF64 is from one that the host has no route by: router %s, want %s", got, router6)
	}
	specific := netlink.Route{
		LinkIndex: l.laptop.index(t, l.uplink), Gw: router6.AsSlice(),
		Dst: &net.IPNet{IP: plat6.AsSlice(), Mask: net.CIDRMask(96, 128)},
	}
	l.laptop.route(t, specific)
	if got := via(bad); got != router6 {
		t.Errorf("there is a route to PREF64: router %s, want %s", got, router6)
	}
	if err := l.laptop.nl.RouteDel(&specific); err != nil {
		t.Fatal(err)
	}

	for name, attach := range attachments() {
		t.Run(name, func(t *testing.T) {
			s := l.steer(t, attach)
			for _, bad := range []string{"192.0.2.1", "::ffff:192.0.2.1", "ff02::2", "::"} {
				if err := s.SetRouter(netip.MustParseAddr(bad)); err == nil {
					t.Errorf("router %s was accepted", bad)
				}
			}

			// The reason for all this: left to the routes, the kernel looks for the
			// other link's router on this link.
			l.tun.write(t, vnetHeader{}, echo(clat6, plat6, typeEchoRequest, 1, 8))
			if _, ok := l.wire.next(t, patience, func(f frame) bool {
				return isICMPv6(f.ip(), typeNS) && bytes.Equal(f.ip()[48:64], other.AsSlice())
			}); !ok {
				t.Error("this kernel insists on the uplink's own routes by itself")
			}

			if err := s.SetRouter(ask(plat6)); err != nil {
				t.Fatal(err)
			}
			l.roundTrip(t, 2)
			// Zones do not matter, nor does saying it again.
			if err := s.SetRouter(router6.WithZone("up0")); err != nil {
				t.Fatal(err)
			}
			l.roundTrip(t, 3)
			super := tcpSuper(clat6, elsewhere, 20000)
			l.tun.write(t, vnetHeader{flags: needsCsum, gsoType: gsoTCPv6, hdrLen: 60, gsoSize: 1440, csumStart: 40, csumOffset: 16}, super)
			f, ok := l.wire.next(t, patience, func(f frame) bool { return bytes.Equal(f.ip(), super) })
			if !ok || !bytes.Equal(f.data[:6], l.routerMAC) {
				t.Errorf("a super-packet does not go to the router: %.14x", f.data)
			}

			for range 2 {
				if err := s.SetRouter(netip.Addr{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.laptop.nl.RouteDel(&preferred); err != nil {
				t.Fatal(err)
			}
			l.roundTrip(t, 4)
			l.laptop.route(t, preferred)
		})
	}

	t.Run("VPN", func(t *testing.T) {
		// As wg-quick does it: a table of its own for everything, by a rule.
		vpn := l.laptop.tun(t, "vpn0")
		l.laptop.route(t, netlink.Route{LinkIndex: vpn.index, Table: 51820, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}})
		rule := netlink.NewRule()
		rule.Family, rule.Table, rule.Priority = unix.AF_INET6, 51820, 100
		if err := l.laptop.nl.RuleAdd(rule); err != nil {
			t.Fatal(err)
		}
		if got := ask(plat6); got != router6 {
			t.Errorf("router %s, want %s", got, router6)
		}
		if err := l.laptop.nl.RuleDel(rule); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("none", func(t *testing.T) {
		lonely := newHost(t)
		d := lonely.tun(t, "up0")
		if router, err := Router(lonely.nl, d.index, clat6, plat6, netip.Addr{}); err == nil {
			t.Errorf("a host without routes: router %s", router)
		}
	})
}
