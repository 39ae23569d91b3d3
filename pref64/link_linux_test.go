package pref64

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tnat64d/internal/needs"
)

// testNet is a host and a router in network namespaces of their own, without
// names, so that nothing stays behind.
type testNet struct {
	t            *testing.T
	host, router netns.NsHandle
}

// newTestNet needs root. The host has accept_ra as given, and no DAD, to be
// quick.
func newTestNet(t *testing.T, acceptRA int) *testNet {
	t.Helper()
	needs.Root(t, "network namespaces")
	n := &testNet{t: t, host: newNamespace(t), router: newNamespace(t)}
	for _, ns := range []netns.NsHandle{n.host, n.router} {
		for _, conf := range []string{"all", "default"} {
			n.sysctl(ns, conf, "accept_dad", 0)
			n.sysctl(ns, conf, "dad_transmits", 0)
		}
	}
	n.sysctl(n.host, "default", "accept_ra", acceptRA)
	n.sysctl(n.host, "default", "router_solicitations", 0) // so that all that are seen are ours
	return n
}

func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	var ns netns.NsHandle
	onThread(t, func() (err error) {
		ns, err = netns.New()
		return err
	})
	t.Cleanup(func() { ns.Close() })
	return ns
}

// onThread runs f on a thread of its own that ends with f, so that f may do to
// the thread what it likes.
func onThread(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// in runs f in a namespace.
func (n *testNet) in(ns netns.NsHandle, f func() error) {
	n.t.Helper()
	onThread(n.t, func() error {
		if err := netns.Set(ns); err != nil {
			return err
		}
		return f()
	})
}

func (n *testNet) sysctl(ns netns.NsHandle, conf, name string, value int) {
	n.t.Helper()
	n.in(ns, func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/"+name, []byte(strconv.Itoa(value)), 0)
	})
}

// testLink is a veth pair between host and router. The router's end is a
// packet socket: the test sees and sends every bit itself.
type testLink struct {
	t             *testing.T
	net           *testNet
	index         int // of the host's end
	hostMAC       net.HardwareAddr
	routerMAC     net.HardwareAddr
	wire          int
	hostHandle    *netlink.Handle
	routerHandle  *netlink.Handle
	hostLink, rtr netlink.Link
}

func (n *testNet) newLink(name string) *testLink {
	n.t.Helper()
	l := &testLink{t: n.t, net: n}
	must := func(err error) {
		n.t.Helper()
		if err != nil {
			n.t.Fatal(err)
		}
	}
	var err error
	l.hostHandle, err = netlink.NewHandleAt(n.host)
	must(err)
	n.t.Cleanup(l.hostHandle.Close)
	l.routerHandle, err = netlink.NewHandleAt(n.router)
	must(err)
	n.t.Cleanup(l.routerHandle.Close)

	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: name, PeerNamespace: netlink.NsFd(n.router)}
	veth.Name = name
	must(l.hostHandle.LinkAdd(veth))
	l.hostLink, err = l.hostHandle.LinkByName(name)
	must(err)
	l.rtr, err = l.routerHandle.LinkByName(name)
	must(err)
	l.index = l.hostLink.Attrs().Index
	l.hostMAC, l.routerMAC = l.hostLink.Attrs().HardwareAddr, l.rtr.Attrs().HardwareAddr
	must(l.routerHandle.LinkSetUp(l.rtr))
	must(l.hostHandle.LinkSetUp(l.hostLink))

	n.in(n.router, func() error {
		l.wire, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_IPV6)))
		if err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(l.wire, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
			return err
		}
		return unix.Bind(l.wire, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IPV6), Ifindex: l.rtr.Attrs().Index})
	})
	n.t.Cleanup(func() { unix.Close(l.wire) })
	l.waitAddress()
	return l
}

func htons(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// waitAddress waits until the host has a link-local address that it may use.
func (l *testLink) waitAddress() {
	l.t.Helper()
	for range 6000 {
		addrs, err := l.hostHandle.AddrList(l.hostLink, netlink.FAMILY_V6)
		if err == nil && len(addrs) > 0 && addrs[0].Flags&unix.IFA_F_TENTATIVE == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.t.Fatal("the host's end has no link-local address")
}

var (
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
)

// send puts an ICMPv6 message to all nodes on the wire.
func (l *testLink) send(src netip.Addr, hopLimit byte, msg []byte) {
	l.t.Helper()
	l.sendIPv6(src, 58, hopLimit, msg)
}

func (l *testLink) sendIPv6(src netip.Addr, nextHeader, hopLimit byte, payload []byte) {
	l.t.Helper()
	frame := append([]byte{0x33, 0x33, 0, 0, 0, 1}, l.routerMAC...)
	frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0)
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(payload)))
	frame = append(frame, nextHeader, hopLimit)
	frame = append(frame, src.AsSlice()...)
	frame = append(frame, allNodes.AsSlice()...)
	frame = append(frame, payload...)
	if _, err := unix.Write(l.wire, frame); err != nil {
		l.t.Fatal(err)
	}
}

// solicitation waits for a Router Solicitation and returns the IPv6 packet.
func (l *testLink) solicitation() ([]byte, error) {
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		n, from, err := unix.Recvfrom(l.wire, buf, 0)
		if err == unix.EAGAIN || err == unix.EINTR || err == unix.ENETDOWN {
			continue
		} else if err != nil {
			return nil, err
		}
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if p := buf[14:n]; len(p) >= 48 && p[6] == 58 && p[40] == typeRouterSolicitation {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no router solicitation within 60 s")
}
