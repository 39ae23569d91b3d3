package host

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestKernelPeers: who answers is known while a connection lasts and for a while
// after it has ended.
func TestKernelPeers(t *testing.T) {
	k := enterNetns(t)
	lo := byName(t, k, "lo")
	must(t, k.kernel.handle.LinkSetUp(lo))
	for _, a := range []string{"192.0.0.1/32", "192.0.0.3/32", "203.0.113.1/32", "203.0.113.2/32"} {
		addAddr(t, k, lo, a, 0)
	}
	clat := netip.MustParseAddr("192.0.0.1")
	server, err := net.Listen("tcp4", "203.0.113.1:0")
	must(t, err)
	defer server.Close()
	at := server.Addr().(*net.TCPAddr).AddrPort()
	accepted := make(chan net.Conn, 1)
	accept := func() net.Conn {
		go func() {
			if c, err := server.Accept(); err == nil {
				accepted <- c
			}
		}()
		select {
		case c := <-accepted:
			return c
		case <-time.After(60 * time.Second):
			t.Fatal("no connection")
			return nil
		}
	}
	peers := func() []Peer {
		ps, err := k.Peers(clat)
		must(t, err)
		return ps
	}
	if ps := peers(); len(ps) != 0 {
		t.Errorf("peers of nobody: %v", ps)
	}
	me := uint32(os.Getuid())
	first := dialFrom(t, "tcp4", "192.0.0.1:0", at.String())
	other := accept()
	dialMapped(t, clat, at)
	defer accept().Close()
	dialFrom(t, "tcp4", "192.0.0.3:0", at.String()) // another CLAT's
	defer accept().Close()
	dialFrom(t, "udp4", "192.0.0.1:0", "203.0.113.2:53")
	answered := Peer{Addr: at, TCP: true, Answered: true, User: me}
	want := []Peer{answered, answered, {Addr: netip.MustParseAddrPort("203.0.113.2:53"), User: me}}
	if got := peers(); !slices.Equal(got, want) {
		t.Errorf("peers %v, want %v", got, want)
	}
	first.Close()
	other.Close()
	deadline := time.Now().Add(60 * time.Second)
	for !slices.Contains(peers(), Peer{Addr: at, TCP: true, Answered: true, User: UnknownUser}) {
		if time.Now().After(deadline) {
			t.Fatalf("a connection that has ended is forgotten at once: %v", peers())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestParsePeer(t *testing.T) {
	for n := range offsetDiagUID + 4 {
		if _, ok := parsePeer(make([]byte, n), true); ok {
			t.Errorf("%d bytes are enough", n)
		}
	}
	m := make([]byte, offsetDiagUID+4)
	m[0], m[1] = unix.AF_INET6, 1
	copy(m[24:], netip.MustParseAddr("2001:db8::1").AsSlice())
	if p, ok := parsePeer(m, true); ok {
		t.Errorf("an IPv6 destination: %v", p)
	}
}

// TestKernelUnreachable: what neighbour unreachability detection has found.
func TestKernelUnreachable(t *testing.T) {
	k := enterNetns(t)
	must(t, k.kernel.handle.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "up1"}))
	link := byName(t, k, "up0")
	must(t, k.kernel.handle.LinkSetUp(link))
	index := link.Attrs().Index
	router := netip.MustParseAddr("fe80::1")
	if k.Unreachable(index, router) {
		t.Error("one that nobody has looked for is unreachable")
	}
	for state, want := range map[int]bool{unix.NUD_REACHABLE: false, unix.NUD_STALE: false, unix.NUD_FAILED: true} {
		n := &netlink.Neigh{LinkIndex: index, Family: unix.AF_INET6, State: state, IP: router.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
		if state == unix.NUD_FAILED {
			n.HardwareAddr = nil
		}
		must(t, k.kernel.handle.NeighSet(n))
		if got := k.Unreachable(index, router); got != want {
			t.Errorf("state %#x: unreachable is %v", state, got)
		}
	}
}
