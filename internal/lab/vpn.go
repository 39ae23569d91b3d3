package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// VPNInterface is the VPN's interface on the laptop and on the server.
const VPNInterface = "vpn0"

// PortVPN is where the server expects the VPN's datagrams.
const PortVPN = 1194

// The VPN's own addresses. VPNServer is its resolver too. VPNBeyond is another
// address of the server, for which the laptop needs a default route into the
// tunnel.
var (
	VPNServer = netip.MustParseAddr("10.8.0.1")
	VPNLaptop = netip.MustParseAddr("10.8.0.2")
	VPNBeyond = netip.MustParseAddr("10.9.0.1")
	vpnLink   = netip.MustParsePrefix("10.8.0.0/24")
)

// VPNRoutes says how a VPN client leads traffic into its tunnel.
type VPNRoutes int

const (
	// VPNSplit leads only the VPN's own network into the tunnel.
	VPNSplit VPNRoutes = iota
	// VPNDefault has a default route of metric 50, better than any CLAT's, and
	// a host route to the endpoint by what was the default route before.
	VPNDefault
	// VPNHalves has two routes, 0.0.0.0/1 and 128.0.0.0/1, and a host route to
	// the endpoint: OpenVPN's way.
	VPNHalves
	// VPNPolicy has a default route in a table of its own for all packets but
	// those that bear the client's mark: wg-quick's way.
	VPNPolicy
)

const (
	vpnMetric = 50
	vpnMark   = 51820 // and table
)

// VPN is a tunnel between laptop and server: IPv4 in UDP to 198.51.100.7,
// which the laptop reaches by IPv4 only. It hides nothing.
type VPN struct {
	lab      *Lab
	tun      [2]*os.File // laptop, server
	conn     [2]*net.UDPConn
	carrying sync.WaitGroup
	rules    []*netlink.Rule
	endpoint *netlink.Route
}

// StartVPN connects the laptop with the server. Where the routes lead to the
// endpoint by the IPv4 default route there must be one: a CLAT that is up.
func (l *Lab) StartVPN(routes VPNRoutes) (*VPN, error) {
	v := &VPN{lab: l}
	context.AfterFunc(l.life, v.stop)
	if err := v.start(routes); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: VPN: %w", err), v.Close())
	}
	return v, nil
}

func (v *VPN) start(routes VPNRoutes) error {
	l := v.lab
	return steps(
		func() error { return v.open(0, l.Laptop, VPNLaptop) },
		func() error { return v.open(1, l.Server, VPNServer) },
		func() error { return l.Server.address(VPNInterface, VPNBeyond, 32) },
		func() error {
			return l.Server.Do(func() (err error) {
				v.conn[1], err = net.ListenUDP("udp4", &net.UDPAddr{Port: PortVPN})
				return err
			})
		},
		func() error {
			if routes == VPNDefault || routes == VPNHalves {
				return v.routeEndpoint()
			}
			return nil
		},
		func() error {
			// Not connected: the way out may change, and with it the source.
			return l.Laptop.Do(func() (err error) {
				v.conn[0], err = net.ListenUDP("udp4", nil)
				return err
			})
		},
		func() error {
			if routes == VPNPolicy {
				setSocketOption(v.conn[0], unix.SOL_SOCKET, unix.SO_MARK, vpnMark)
			}
			v.carry()
			return v.route(routes)
		},
	)
}

// open makes one end's interface.
func (v *VPN) open(i int, h *Host, addr netip.Addr) error {
	var err error
	if v.tun[i], err = h.openTUN(VPNInterface); err != nil {
		return err
	}
	return steps(
		func() error { return h.SetMTU(VPNInterface, 1420) },
		func() error { return h.up(VPNInterface) },
		func() error { return h.address(VPNInterface, addr, vpnLink.Bits()) },
	)
}

// run runs f beside the caller until Close.
func (v *VPN) run(f func()) {
	v.carrying.Add(1)
	v.lab.running.Go(func() {
		defer v.carrying.Done()
		f()
	})
}

// carry moves packets in both directions until Close.
func (v *VPN) carry() {
	var peer atomic.Pointer[netip.AddrPort] // of the laptop, as the server sees it
	server := netip.AddrPortFrom(ServerIPv4, PortVPN)
	peers := [2]func() *netip.AddrPort{func() *netip.AddrPort { return &server }, peer.Load}
	for i := range v.tun {
		tun, conn := v.tun[i], v.conn[i]
		v.run(func() {
			buf := make([]byte, 1<<16)
			for {
				n, err := tun.Read(buf)
				if errors.Is(err, os.ErrClosed) {
					return
				}
				if to := peers[i](); err == nil && to != nil {
					conn.WriteToUDPAddrPort(buf[:n], *to) // no route at the moment: lost
				}
			}
		})
		v.run(func() {
			buf := make([]byte, 1<<16)
			for {
				n, from, err := conn.ReadFromUDPAddrPort(buf)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err != nil {
					continue // an ICMP error
				}
				if i == 1 {
					peer.Store(&from)
				}
				tun.Write(buf[:n])
			}
		})
	}
}

// routeEndpoint leads to the endpoint as the best IPv4 default route does now.
func (v *VPN) routeEndpoint() error {
	nl := v.lab.Laptop.Netlink
	routes, err := whole(func() ([]netlink.Route, error) { return nl.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return err
	}
	var best *netlink.Route
	for i, r := range routes {
		if isDefault(r) && (best == nil || r.Priority < best.Priority) {
			best = &routes[i]
		}
	}
	if best == nil {
		return fmt.Errorf("no IPv4 default route to the endpoint %s", ServerIPv4)
	}
	v.endpoint = &netlink.Route{Dst: ipNet(netip.PrefixFrom(ServerIPv4, 32)), LinkIndex: best.LinkIndex, Gw: best.Gw}
	if err := nl.RouteReplace(v.endpoint); err != nil {
		return fmt.Errorf("route to the endpoint: %w", err)
	}
	return nil
}

// route leads traffic into the tunnel.
func (v *VPN) route(routes VPNRoutes) error {
	nl := v.lab.Laptop.Netlink
	link, err := nl.LinkByName(VPNInterface)
	if err != nil {
		return err
	}
	add := func(r netlink.Route) error {
		r.LinkIndex, r.Scope = link.Attrs().Index, netlink.SCOPE_LINK
		if err := nl.RouteReplace(&r); err != nil {
			return fmt.Errorf("route into the tunnel: %w", err)
		}
		return nil
	}
	switch routes {
	case VPNDefault:
		return add(netlink.Route{Dst: ipNet(anyIPv4), Priority: vpnMetric})
	case VPNHalves:
		return errors.Join(
			add(netlink.Route{Dst: ipNet(netip.MustParsePrefix("0.0.0.0/1"))}),
			add(netlink.Route{Dst: ipNet(netip.MustParsePrefix("128.0.0.0/1"))}),
		)
	case VPNPolicy:
		if err := add(netlink.Route{Dst: ipNet(anyIPv4), Table: vpnMark}); err != nil {
			return err
		}
		marked := netlink.NewRule()
		marked.Family, marked.Mark, marked.Invert, marked.Table, marked.Priority = netlink.FAMILY_V4, vpnMark, true, vpnMark, 32765
		specific := netlink.NewRule()
		specific.Family, specific.Table, specific.SuppressPrefixlen, specific.Priority = netlink.FAMILY_V4, unix.RT_TABLE_MAIN, 0, 32764
		for _, r := range []*netlink.Rule{marked, specific} {
			if err := nl.RuleAdd(r); err != nil {
				return fmt.Errorf("rule for the tunnel: %w", err)
			}
			v.rules = append(v.rules, r)
		}
	}
	return nil
}

// Close takes the VPN down, with its interfaces, routes and rules. It may be
// called any number of times, or left to the lab's Close.
func (v *VPN) Close() error {
	var errs []error
	for _, r := range v.rules {
		errs = append(errs, v.lab.Laptop.Netlink.RuleDel(r))
	}
	if v.endpoint != nil {
		// It may have gone with the CLAT's interface.
		if err := v.lab.Laptop.Netlink.RouteDel(v.endpoint); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, err)
		}
	}
	v.rules, v.endpoint = nil, nil
	v.stop()
	// While one of these uses a TUN it keeps its name, and so does a child process
	// that has not come to its exec yet.
	v.carrying.Wait()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab: VPN: %w", err)
	}
	return nil
}

// stop ends the tunnel; its interfaces go with it.
func (v *VPN) stop() {
	for i := range v.tun {
		if v.conn[i] != nil {
			v.conn[i].Close()
		}
		if v.tun[i] != nil {
			v.tun[i].Close()
		}
	}
}
