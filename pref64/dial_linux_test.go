package pref64

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// address gives the host's end h and the router's end r of the link.
func (l *testLink) address(h, r string) {
	l.t.Helper()
	for _, e := range []struct {
		handle *netlink.Handle
		link   netlink.Link
		addr   string
	}{{l.hostHandle, l.hostLink, h}, {l.routerHandle, l.rtr, r}} {
		a, err := netlink.ParseAddr(e.addr)
		if err != nil {
			l.t.Fatal(err)
		}
		a.Flags = unix.IFA_F_NODAD
		if err := e.handle.AddrAdd(e.link, a); err != nil {
			l.t.Fatal(err)
		}
	}
}

// resolver answers in the namespace of the routers, on an address: truncated
// over UDP if cut, with prefixB over TCP. It counts questions and remembers
// from where the last one came.
type testResolver struct {
	udp, tcp atomic.Int32
	from     atomic.Value // netip.AddrPort
}

func (n *testNet) resolver(addr string, cut bool) *testResolver {
	n.t.Helper()
	r := &testResolver{}
	free := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1) }), err)
	}}
	n.in(n.router, func() error {
		pc, err := free.ListenPacket(context.Background(), "udp6", net.JoinHostPort(addr, "53"))
		if err != nil {
			return err
		}
		ln, err := free.Listen(context.Background(), "tcp6", net.JoinHostPort(addr, "53"))
		if err != nil {
			return err
		}
		n.t.Cleanup(func() { pc.Close(); ln.Close() })
		go func() {
			buf := make([]byte, 512)
			for {
				m, from, err := pc.ReadFrom(buf)
				if err != nil {
					return
				}
				r.udp.Add(1)
				r.from.Store(from.(*net.UDPAddr).AddrPort())
				rep := reply{ttl: 600, addrs: dns64(prefixA)}
				if cut {
					rep = reply{cut: true}
				}
				pc.WriteTo(rep.from(n.t, buf[:m]), from)
			}
		}()
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				r.tcp.Add(1)
				q := make([]byte, 2+len(query(0)))
				if _, err := io.ReadFull(c, q); err == nil {
					msg := reply{ttl: 600, addrs: dns64(prefixB)}.from(n.t, q[2:])
					c.Write(append([]byte{0, byte(len(msg))}, msg...))
				}
				c.Close()
			}
		}()
		return nil
	})
	return r
}

// asks asks the servers once, over the host's end, as the user 65534.
func (l *testLink) asks(servers ...string) (o outcome) {
	l.t.Helper()
	onThread(l.t, func() error {
		if err := netns.Set(l.net.host); err != nil {
			return err
		}
		// Of this thread alone: it ends with the function.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			return errno
		}
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		a := &dnsDiscovery{ifindex: l.index, servers: addrs(servers...), dial: dialOver(l.index)}
		o = a.round(ctx)
		return nil
	})
	return o
}

// TestDial asks over the kernel's sockets, without privilege: UDP, TCP after a
// truncated answer, a resolver on the link, and none that is beyond another
// interface, though the routing table leads there.
func TestDial(t *testing.T) {
	n := newTestNet(t, 0)
	up, other := n.newLink("up0"), n.newLink("vpn0")
	up.address("2001:db8:1::2/64", "2001:db8:1::53/64")
	up.address("2001:db8:1::3/64", "2001:db8:1::54/64")
	up.address("2001:db8:1::4/64", "2001:db8:1::55/64")
	other.address("2001:db8:2::2/64", "2001:db8:2::53/64")
	// The host's way to everything is by the other interface.
	via := netip.MustParseAddr("2001:db8:2::53")
	if err := other.hostHandle.RouteAdd(&netlink.Route{LinkIndex: other.index, Gw: net.IP(via.AsSlice())}); err != nil {
		t.Fatal(err)
	}

	plain := n.resolver("2001:db8:1::53", false)
	o := up.asks("2001:db8:1::53")
	if o.kind != found || o.prefixes[0] != prefixA || o.server != netip.MustParseAddr("2001:db8:1::53") {
		t.Errorf("UDP: %+v", o)
	}
	first, _ := plain.from.Load().(netip.AddrPort)
	if !netip.MustParsePrefix("2001:db8:1::/64").Contains(first.Addr()) {
		t.Errorf("asked from %v", first)
	}
	up.asks("2001:db8:1::53")
	if again, _ := plain.from.Load().(netip.AddrPort); again.Port() == first.Port() {
		t.Errorf("asked from port %d twice", again.Port())
	}

	cut := n.resolver("2001:db8:1::54", true)
	if o := up.asks("2001:db8:1::54"); o.kind != found || o.prefixes[0] != prefixB || cut.udp.Load() != 1 || cut.tcp.Load() != 1 {
		t.Errorf("TCP: %+v; asked %d and %d times", o, cut.udp.Load(), cut.tcp.Load())
	}

	link, err := up.routerHandle.AddrList(up.rtr, netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range link {
		if ip, _ := netip.AddrFromSlice(a.IP); isLinkLocal(ip) {
			n.resolver(ip.String()+"%up0", false)
			if o := up.asks(ip.String()); o.kind != found || o.server != ip {
				t.Errorf("link-local: %+v", o)
			}
		}
	}

	beyond := n.resolver("2001:db8:2::53", false)
	if o := up.asks("2001:db8:2::53"); o.kind != failed || !strings.Contains(o.why, "cannot be reached") {
		t.Errorf("over the other interface: %+v", o)
	}
	if got := beyond.udp.Load() + beyond.tcp.Load(); got != 0 {
		t.Errorf("asked over the other interface %d times", got)
	}
	// It would have answered.
	if o := other.asks("2001:db8:2::53"); o.kind != found {
		t.Errorf("over its own interface: %+v", o)
	}
	if o := up.asks("2001:db8:1::55"); o.kind != failed || !strings.Contains(o.why, "connection refused") {
		t.Errorf("refused: %+v", o)
	}
}
