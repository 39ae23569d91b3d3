package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// end is one end of a link.
type end struct {
	host   *Host
	ifname string
	mac    net.HardwareAddr
}

// connect makes a veth pair between two hosts, both ends still down. It is
// created inside the namespaces: the machine's own never sees it.
func connect(a, b end, mtu int) error {
	link := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: a.ifname, MTU: mtu, HardwareAddr: a.mac},
		PeerName:         b.ifname,
		PeerHardwareAddr: b.mac,
		PeerNamespace:    netlink.NsFd(b.host.ns),
		PeerMTU:          uint32(mtu),
	}
	if err := a.host.Netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("connect %s:%s to %s:%s: %w", a.host.Name, a.ifname, b.host.Name, b.ifname, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// steps runs functions until one fails.
func steps(list ...func() error) error {
	for _, f := range list {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

var (
	anyIPv4 = netip.MustParsePrefix("0.0.0.0/0")
	anyIPv6 = netip.MustParsePrefix("::/0")
)

// wire builds every link, address and route except those of the PLAT. The
// laptop's uplink stays down.
func (l *Lab) wire() error {
	o := l.options
	return steps(
		l.Router.infrastructure,
		l.ISP.infrastructure,
		l.Server.infrastructure,
		l.forwarding,
		l.Network.forwarding,
		func() error { return l.plug(Uplink, hardwareAddr(0x10), l.Network) },
		l.Network.wireISP,
		func() error {
			return connect(end{l.ISP, ispEast, hardwareAddr(0x04)}, end{l.Server, eth, hardwareAddr(0x05)}, o.MTUServer)
		},
		func() error { return l.ISP.up(ispEast) },
		func() error { return l.Server.up(eth) },
		func() error { return l.ISP.address(ispEast, ispServerISP4, ispServer4.Bits()) },
		func() error { return l.Server.address(eth, ServerIPv4, ispServer4.Bits()) },
		func() error { return l.Server.route(anyIPv4, eth, ispServerISP4) },
	)
}

// forwarding makes a router of the isp, and IPv4-only machines of those beyond
// the PLAT.
func (l *Lab) forwarding() error {
	ipv6Beyond := "1" // disabled
	if l.options.NoPLAT {
		ipv6Beyond = "0"
	}
	return steps(
		func() error { return l.ISP.Sysctl("net.ipv4.ip_forward", "1") },
		func() error { return l.ISP.Sysctl("net.ipv6.conf.all.forwarding", "1") },
		func() error { return l.ISP.Sysctl("net.ipv6.conf.all.disable_ipv6", ipv6Beyond) },
		func() error { return l.ISP.Sysctl("net.ipv6.conf.default.disable_ipv6", ipv6Beyond) },
		func() error { return l.Server.Sysctl("net.ipv6.conf.all.disable_ipv6", ipv6Beyond) },
		func() error { return l.Server.Sysctl("net.ipv6.conf.default.disable_ipv6", ipv6Beyond) },
	)
}

// wireWithoutPLAT carries IPv6 through to the server, which then owns the
// synthesised addresses itself.
func (l *Lab) wireWithoutPLAT() error {
	linkLocal := func(host byte) netip.Addr { // a router solicits neighbours from one
		return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: host})
	}
	return steps(
		func() error { return l.Router.address(wan, linkLocal(1), 64) },
		func() error { return l.ISP.address(ispWest, linkLocal(2), 64) },
		func() error { return l.ISP.address(ispEast, linkLocal(1), 64) },
		func() error { return l.Server.address(eth, linkLocal(7), 64) },
		func() error { return l.Router.address(wan, routerISP6R, routerISP6.Bits()) },
		func() error { return l.ISP.address(ispWest, routerISP6I, routerISP6.Bits()) },
		func() error { return l.ISP.address(ispEast, ispServer6I, ispServer6.Bits()) },
		func() error { return l.Server.address(eth, ispServer6Srv, ispServer6.Bits()) },
		func() error { return l.ISP.route(LaptopLink, ispWest, routerISP6R) },
		func() error { return l.Server.route(anyIPv6, eth, ispServer6I) },
	)
}

// SetNativeIPv4 gives the laptop native IPv4 on this network beside its IPv6,
// or takes it away again: an address and a default route of metric 100, as a
// DHCP client would.
func (n *Network) SetNativeIPv4(on bool) error {
	uplink := n.Attached()
	link, err := n.lab.Laptop.Netlink.LinkByName(uplink)
	if err != nil {
		return fmt.Errorf("native IPv4: %w", err)
	}
	n.mu.Lock()
	n.nativeOn = on
	n.mu.Unlock()
	own := n.NativeLaptop()
	if !on {
		// The routes go with the address.
		if err := n.lab.Laptop.Netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(own, n.native.Bits()))}); err != nil {
			return fmt.Errorf("native IPv4: %w", err)
		}
		return nil
	}
	gateway := n.native.Addr().Next()
	return steps(
		func() error { return n.Router.address(lan, gateway, n.native.Bits()) },
		func() error { return n.lab.Laptop.address(uplink, own, n.native.Bits()) },
		func() error {
			return n.lab.Laptop.Netlink.RouteReplace(&netlink.Route{
				Dst: ipNet(anyIPv4), LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice(), Priority: 100,
			})
		},
	)
}

// NativeLaptop is the laptop's native IPv4 address on this network, when it has one.
func (n *Network) NativeLaptop() netip.Addr { return n.native.Addr().Next().Next() }

// routeToServer leads a PREF64 to the server, which owns its own address there.
func (l *Lab) routeToServer(p netip.Prefix) error {
	return steps(
		func() error { return l.Server.address(eth, Synthesize(p, ServerIPv4), 128) },
		func() error { return l.ISP.route(p, ispEast, ispServer6Srv) },
		func() error { return l.Router.route(p, wan, routerISP6I) },
	)
}

// unrouteToServer undoes routeToServer, except that the server keeps its old address.
func (l *Lab) unrouteToServer(p netip.Prefix) error {
	return steps(
		func() error { return l.Router.unroute(p) },
		func() error { return l.ISP.unroute(p) },
	)
}
