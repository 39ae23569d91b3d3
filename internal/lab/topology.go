package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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

// up sets an interface up.
func (h *Host) up(ifname string) error {
	link, err := h.Netlink.LinkByName(ifname)
	if err == nil {
		err = h.Netlink.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("set up %s:%s: %w", h.Name, ifname, err)
	}
	return nil
}

// down sets an interface down.
func (h *Host) down(ifname string) error {
	link, err := h.Netlink.LinkByName(ifname)
	if err == nil {
		err = h.Netlink.LinkSetDown(link)
	}
	if err != nil {
		return fmt.Errorf("set down %s:%s: %w", h.Name, ifname, err)
	}
	return nil
}

func (h *Host) setHardwareAddr(ifname string, mac net.HardwareAddr) error {
	link, err := h.Netlink.LinkByName(ifname)
	if err == nil {
		err = h.Netlink.LinkSetHardwareAddr(link, mac)
	}
	if err != nil {
		return fmt.Errorf("address %s of %s:%s: %w", mac, h.Name, ifname, err)
	}
	return nil
}

// SetMTU changes the MTU of an interface.
func (h *Host) SetMTU(ifname string, mtu int) error {
	link, err := h.Netlink.LinkByName(ifname)
	if err == nil {
		err = h.Netlink.LinkSetMTU(link, mtu)
	}
	if err != nil {
		return fmt.Errorf("MTU %d of %s:%s: %w", mtu, h.Name, ifname, err)
	}
	return nil
}

func (h *Host) setQueueLength(ifname string, packets int) error {
	link, err := h.Netlink.LinkByName(ifname)
	if err == nil {
		err = h.Netlink.LinkSetTxQLen(link, packets)
	}
	if err != nil {
		return fmt.Errorf("queue length %d of %s:%s: %w", packets, h.Name, ifname, err)
	}
	return nil
}

// address adds an address; an IPv6 one is usable at once.
func (h *Host) address(ifname string, addr netip.Addr, bits int) error {
	link, err := h.Netlink.LinkByName(ifname)
	if err == nil {
		a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, bits))}
		if addr.Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		err = h.Netlink.AddrReplace(link, a)
	}
	if err != nil {
		return fmt.Errorf("address %s/%d on %s:%s: %w", addr, bits, h.Name, ifname, err)
	}
	return nil
}

// route adds a route through a gateway, or straight onto the link if via is
// the zero Addr.
func (h *Host) route(dst netip.Prefix, ifname string, via netip.Addr) error {
	link, err := h.Netlink.LinkByName(ifname)
	if err == nil {
		r := &netlink.Route{Dst: ipNet(dst), LinkIndex: link.Attrs().Index}
		if via.IsValid() {
			r.Gw = via.AsSlice()
		}
		err = h.Netlink.RouteReplace(r)
	}
	if err != nil {
		return fmt.Errorf("route to %s on %s:%s: %w", dst, h.Name, ifname, err)
	}
	return nil
}

// unroute removes the route to dst, wherever it leads.
func (h *Host) unroute(dst netip.Prefix) error {
	if err := h.Netlink.RouteDel(&netlink.Route{Dst: ipNet(dst)}); err != nil {
		return fmt.Errorf("remove route to %s on %s: %w", dst, h.Name, err)
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

// infrastructure turns a fresh namespace into a machine of ours, as opposed to
// the laptop, which keeps the kernel's ways: addresses are usable at once, the
// only link-local address is the one we give, and traceroute is answered as
// often as it asks.
func (h *Host) infrastructure() error {
	for name, value := range map[string]string{
		"net.ipv6.conf.all.accept_dad":               "0",
		"net.ipv6.conf.default.accept_dad":           "0",
		"net.ipv6.conf.default.accept_ra":            "0",
		"net.ipv6.conf.default.addr_gen_mode":        "1",
		"net.ipv6.conf.default.router_solicitations": "0",
		"net.ipv6.icmp.ratelimit":                    "0",
		"net.ipv4.icmp_ratelimit":                    "0",
	} {
		if err := h.Sysctl(name, value); err != nil {
			return fmt.Errorf("in %s: %w", h.Name, err)
		}
	}
	return nil
}

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

// Packets returns how many packets an interface has sent and received; a
// super-packet counts as one.
func (h *Host) Packets(ifname string) (sent, received uint64, err error) {
	link, err := h.Netlink.LinkByName(ifname)
	if err != nil {
		return 0, 0, fmt.Errorf("%s:%s: %w", h.Name, ifname, err)
	}
	s := link.Attrs().Statistics
	if s == nil {
		return 0, 0, fmt.Errorf("%s:%s has no statistics", h.Name, ifname)
	}
	return s.TxPackets, s.RxPackets, nil
}

// Listening reports with an error that nobody listens on a TCP port of the
// host. It looks and does not connect: some servers serve one client only.
func (h *Host) Listening(port int) error {
	return h.Do(func() error {
		for _, table := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
			data, err := os.ReadFile(table)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(data)) {
				// "sl local_address rem_address st": the port in hexadecimal, 0A is LISTEN
				f := strings.Fields(line)
				if len(f) > 3 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
					return nil
				}
			}
		}
		return fmt.Errorf("nobody listens on port %d of %s", port, h.Name)
	})
}
