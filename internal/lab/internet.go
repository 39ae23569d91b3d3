package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// internet is what all networks lead to: the isp and, behind it, the server.
type internet struct {
	lab         *Lab
	ISP, Server *Host
	serverDNS
}

// wire connects isp and server, with addresses and routes except those of PLATs.
func (i *internet) wire() error {
	o := i.lab.options
	return steps(
		i.ISP.infrastructure,
		i.Server.infrastructure,
		i.forwarding,
		func() error {
			return connect(end{i.ISP, ispEast, hardwareAddr(0x04)}, end{i.Server, eth, hardwareAddr(0x05)}, o.MTUServer)
		},
		func() error { return i.ISP.up(ispEast) },
		func() error { return i.Server.up(eth) },
		func() error { return i.ISP.address(ispEast, ispServerISP4, ispServer4.Bits()) },
		func() error { return i.Server.address(eth, ServerIPv4, ispServer4.Bits()) },
		func() error { return i.Server.route(anyIPv4, eth, ispServerISP4) },
	)
}

// forwarding makes a router of the isp, and IPv4-only machines of those beyond
// the PLAT.
func (i *internet) forwarding() error {
	ipv6Beyond := "1" // disabled
	if i.lab.options.NoPLAT {
		ipv6Beyond = "0"
	}
	return steps(
		func() error { return i.ISP.Sysctl("net.ipv4.ip_forward", "1") },
		func() error { return i.ISP.Sysctl("net.ipv6.conf.all.forwarding", "1") },
		func() error { return i.ISP.Sysctl("net.ipv6.conf.all.disable_ipv6", ipv6Beyond) },
		func() error { return i.ISP.Sysctl("net.ipv6.conf.default.disable_ipv6", ipv6Beyond) },
		func() error { return i.Server.Sysctl("net.ipv6.conf.all.disable_ipv6", ipv6Beyond) },
		func() error { return i.Server.Sysctl("net.ipv6.conf.default.disable_ipv6", ipv6Beyond) },
	)
}

// wireWithoutPLAT carries IPv6 through to the server, which then owns the
// synthesised addresses itself.
func (i *internet) wireWithoutPLAT() error {
	l := i.lab
	linkLocal := func(host byte) netip.Addr { // a router solicits neighbours from one
		return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: host})
	}
	return steps(
		func() error { return l.Router.address(wan, linkLocal(1), 64) },
		func() error { return i.ISP.address(ispWest, linkLocal(2), 64) },
		func() error { return i.ISP.address(ispEast, linkLocal(1), 64) },
		func() error { return i.Server.address(eth, linkLocal(7), 64) },
		func() error { return l.Router.address(wan, routerISP6R, routerISP6.Bits()) },
		func() error { return i.ISP.address(ispWest, routerISP6I, routerISP6.Bits()) },
		func() error { return i.ISP.address(ispEast, ispServer6I, ispServer6.Bits()) },
		func() error { return i.Server.address(eth, ispServer6Srv, ispServer6.Bits()) },
		func() error { return i.ISP.route(LaptopLink, ispWest, routerISP6R) },
		func() error { return i.Server.route(anyIPv6, eth, ispServer6I) },
	)
}

// routeToServer leads a PREF64 to the server, which owns its own address there.
func (i *internet) routeToServer(p netip.Prefix) error {
	return steps(
		func() error { return i.Server.address(eth, Synthesize(p, ServerIPv4), 128) },
		func() error { return i.ISP.route(p, ispEast, ispServer6Srv) },
		func() error { return i.lab.Router.route(p, wan, routerISP6I) },
	)
}

// unrouteToServer undoes routeToServer, except that the server keeps its old address.
func (i *internet) unrouteToServer(p netip.Prefix) error {
	return steps(
		func() error { return i.lab.Router.unroute(p) },
		func() error { return i.ISP.unroute(p) },
	)
}

// serve starts everything the server offers; it ends with ctx.
func (i *internet) serve(ctx context.Context) error {
	l := i.lab
	// Without a PLAT the server owns synthesised addresses and answers on
	// them as well; with one it must not even have an IPv6 socket.
	tcp, udp := "tcp4", "udp4"
	if l.options.NoPLAT {
		tcp, udp = "tcp", "udp"
	}
	listen := func(port int, serve func(net.Listener)) func() error {
		return func() error {
			ln, err := net.Listen(tcp, ":"+strconv.Itoa(port))
			if err != nil {
				return err
			}
			l.until(ctx, ln, func() { serve(ln) })
			return nil
		}
	}
	receive := func(port int, serve func(*net.UDPConn)) func() error {
		return func() error {
			pc, err := net.ListenPacket(udp, ":"+strconv.Itoa(port))
			if err != nil {
				return err
			}
			conn := pc.(*net.UDPConn)
			conn.SetReadBuffer(4 << 20)
			l.until(ctx, conn, func() { serve(conn) })
			return nil
		}
	}
	err := i.Server.Do(func() error {
		return steps(
			listen(PortHTTP, serveHTTP),
			listen(PortEcho, echoTCP),
			receive(PortEcho, echoUDP),
			receive(PortEchoNoChecksum, echoWithoutChecksum),
			listen(PortDNS, i.serverDNS.serveTCP),
			receive(PortDNS, i.serverDNS.serveUDP),
			func() error {
				conn, err := net.ListenPacket("ip4:50", "0.0.0.0")
				if err != nil {
					return err
				}
				l.until(ctx, conn, func() { echoESP(conn) })
				return nil
			},
		)
	})
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}
