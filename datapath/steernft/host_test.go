package steernft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"tnat64d/internal/needs"
	"tnat64d/tun"
)

// patience is how long a test waits for a packet that should come, brief for
// one that should not.
const (
	patience = 60 * time.Second
	brief    = 200 * time.Millisecond
)

// host is a network namespace with a thread of its own, nameless: it goes when
// the test ends.
type host struct {
	t     *testing.T
	ns    netns.NsHandle
	nl    *netlink.Handle
	calls chan func()
}

func newHost(t *testing.T) *host {
	t.Helper()
	needs.Root(t, "makes network namespaces")
	h := &host{t: t, calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			h.ns, err = netns.Get()
		}
		if err == nil {
			h.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		}
		ready <- err
		for f := range h.calls {
			f()
		}
	}()
	must(t, <-ready)
	t.Cleanup(func() {
		h.nl.Close()
		h.ns.Close()
		close(h.calls)
	})
	h.up("lo")
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do runs f on the namespace's thread.
func (h *host) do(f func() error) error {
	done := make(chan error)
	h.calls <- func() { done <- f() }
	return <-done
}

func (h *host) link(name string) netlink.Link {
	h.t.Helper()
	l, err := h.nl.LinkByName(name)
	must(h.t, err)
	return l
}

func (h *host) index(name string) int { h.t.Helper(); return h.link(name).Attrs().Index }

func (h *host) up(name string) { h.t.Helper(); must(h.t, h.nl.LinkSetUp(h.link(name))) }

func (h *host) addr(name, prefix string) {
	h.t.Helper()
	a, err := netlink.ParseAddr(prefix)
	must(h.t, err)
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	must(h.t, h.nl.AddrAdd(h.link(name), a))
}

// connect joins two hosts by a veth pair.
func connect(a *host, nameA string, b *host, nameB string) {
	a.t.Helper()
	must(a.t, a.nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.ns)}))
	a.up(nameA)
	b.up(nameB)
}

// tun opens a TUN that the kernel itself has nothing to say on.
func (h *host) tun(name string) *tun.Device {
	h.t.Helper()
	var d *tun.Device
	must(h.t, h.do(func() (err error) { d, err = tun.Open(name, 1); return err }))
	h.t.Cleanup(func() { d.Close() })
	must(h.t, h.nl.LinkSetIP6AddrGenMode(h.link(name), 1))
	h.up(name)
	return d
}

// read returns the first packet of a TUN that want accepts, or nil.
func read(t *testing.T, d *tun.Device, wait time.Duration, want func([]byte) bool) ([]byte, tun.VnetHeader) {
	t.Helper()
	type packet struct {
		data []byte
		h    tun.VnetHeader
	}
	got := make(chan packet, 1)
	stop := make(chan struct{})
	go func() {
		buf := make([]byte, 1<<17)
		for {
			n, h, err := d.Queues[0].Read(buf, tun.VnetHeaderLen)
			select {
			case <-stop:
				return
			default:
			}
			if errors.Is(err, os.ErrClosed) {
				return
			}
			if p := buf[tun.VnetHeaderLen:][:max(n, 0)]; err == nil && want(p) {
				got <- packet{bytes.Clone(p), h}
				return
			}
		}
	}()
	select {
	case p := <-got:
		return p.data, p.h
	case <-time.After(wait):
		close(stop)
		return nil, tun.VnetHeader{}
	}
}

// write gives an IP packet to the kernel as received from a TUN.
func write(t *testing.T, d *tun.Device, h tun.VnetHeader, packet []byte) {
	t.Helper()
	must(t, d.Queues[0].Write(append(make([]byte, tun.VnetHeaderLen), packet...), tun.VnetHeaderLen, h))
}

// wire is a packet socket: what crosses an interface, super-packets unsplit.
type wire struct {
	t  *testing.T
	fd int
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

func (h *host) wire(name string) *wire {
	h.t.Helper()
	w := &wire{h.t, -1}
	index := h.index(name)
	must(h.t, h.do(func() (err error) {
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL))); err != nil {
			return err
		}
		if err = unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index})
	}))
	h.t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

func (w *wire) write(h tun.VnetHeader, frame []byte) {
	w.t.Helper()
	b := make([]byte, tun.VnetHeaderLen)
	h.Encode(b)
	_, err := unix.Write(w.fd, append(b, frame...))
	must(w.t, err)
}

// next returns the first incoming frame that want accepts, or nil.
func (w *wire) next(wait time.Duration, want func([]byte) bool) []byte {
	w.t.Helper()
	buf := make([]byte, 1<<17)
	for end := time.Now().Add(wait); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if n == 0 || err == unix.EINTR {
			continue
		}
		must(w.t, err)
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		must(w.t, err)
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if f := buf[tun.VnetHeaderLen:n]; want(f) {
			return bytes.Clone(f)
		}
	}
}

// ipv6 is an IPv6 packet with hop limit 64.
func ipv6(src, dst netip.Addr, next byte, payload []byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0], b[6], b[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return append(b, payload...)
}

// udp is a UDP datagram without a right checksum; nobody looks.
func udp(text string) []byte {
	b := []byte{0x10, 0x00, 0x10, 0x01, 0, byte(8 + len(text)), 0x12, 0x34}
	return append(b, text...)
}

// frame puts an Ethernet header in front of a packet, with a VLAN tag if vlan
// is not negative.
func frame(to, from net.HardwareAddr, vlan int, packet []byte) []byte {
	b := append(append([]byte{}, to...), from...)
	if vlan >= 0 {
		b = append(b, 0x81, 0x00, byte(vlan>>8), byte(vlan))
	}
	return append(append(b, 0x86, 0xdd), packet...)
}
