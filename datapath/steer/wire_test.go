package steer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for a packet that should come; brief is
// how long it waits for one that should not.
const (
	patience = 30 * time.Second
	brief    = 150 * time.Millisecond
)

// frame is what came in by a packet socket or a TUN.
type frame struct {
	vnet vnetHeader
	data []byte
}

// tun is a TUN with virtio-net header and offloads, as the daemon opens it.
type tun struct {
	name  string
	index int
	file  *os.File
}

const (
	tunOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 // USO needs kernel 6.2

	gsoTCPv4  = 1
	gsoTCPv6  = 4
	needsCsum = 1
)

func (h *host) tun(t *testing.T, name string) *tun {
	t.Helper()
	link := &netlink.Tuntap{
		LinkAttrs:  netlink.LinkAttrs{Name: name},
		Mode:       netlink.TUNTAP_MODE_TUN,
		Flags:      netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
		NonPersist: true,
		Queues:     1,
	}
	h.do(t, func() error {
		if err := h.nl.LinkAdd(link); err != nil {
			return err
		}
		// No link-local address, so that the kernel has nothing to say on it.
		if err := h.nl.LinkSetIP6AddrGenMode(link, 1); err != nil {
			return err
		}
		return h.nl.LinkSetUp(link)
	})
	d := &tun{name: name, index: h.index(t, name), file: link.Fds[0]}
	t.Cleanup(func() { d.file.Close() })
	raw, err := d.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var errno error
	if err := raw.Control(func(fd uintptr) { errno = unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, tunOffloads) }); err != nil || errno != nil {
		t.Fatalf("%s: offloads: %v %v", name, err, errno)
	}
	return d
}

// write sends one IP packet.
func (d *tun) write(t *testing.T, vnet vnetHeader, packet []byte) {
	t.Helper()
	if _, err := d.file.Write(append(vnet.bytes(), packet...)); err != nil {
		t.Fatalf("write to %s: %v", d.name, err)
	}
}

// next returns the first packet that want accepts.
func (d *tun) next(t *testing.T, wait time.Duration, want func(frame) bool) (frame, bool) {
	t.Helper()
	buf := make([]byte, 1<<17)
	d.file.SetReadDeadline(time.Now().Add(wait))
	for {
		n, err := d.file.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return frame{}, false
		}
		if err != nil {
			t.Fatalf("read from %s: %v", d.name, err)
		}
		f := frame{parseVnetHeader(buf), bytes.Clone(buf[vnetHeaderLen:n])}
		if want(f) {
			return f, true
		}
	}
}

// wire is a packet socket: what crosses an interface, super-packets unsplit.
type wire struct{ fd int }

func (h *host) wire(t *testing.T, name string) *wire {
	t.Helper()
	w := &wire{fd: -1}
	index := h.index(t, name)
	h.do(t, func() (err error) {
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL))); err != nil {
			return err
		}
		if err = unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index})
	})
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

func (w *wire) write(t *testing.T, vnet vnetHeader, data []byte) {
	t.Helper()
	if _, err := unix.Write(w.fd, append(vnet.bytes(), data...)); err != nil {
		t.Fatalf("write to the wire: %v", err)
	}
}

// next returns the first frame from the other side that want accepts. The
// virtio-net offsets count from the Ethernet header.
func (w *wire) next(t *testing.T, wait time.Duration, want func(frame) bool) (frame, bool) {
	t.Helper()
	buf := make([]byte, 1<<17)
	for deadline := time.Now().Add(wait); ; {
		left := time.Until(deadline)
		if left <= 0 {
			return frame{}, false
		}
		tv := unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			t.Fatal(err)
		}
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatalf("read from the wire: %v", err)
		}
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		f := frame{parseVnetHeader(buf), bytes.Clone(buf[vnetHeaderLen:n])}
		if want(f) {
			return f, true
		}
	}
}

func htons(x uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, x)) }

// The fields of an IPv6 packet that the tests look at.

func isIPv6(p []byte) bool            { return len(p) >= 40 && p[0]>>4 == 6 }
func source(p []byte) netip.Addr      { return netip.AddrFrom16([16]byte(p[8:24])) }
func destination(p []byte) netip.Addr { return netip.AddrFrom16([16]byte(p[24:40])) }
func isICMPv6(p []byte, typ byte) bool {
	return isIPv6(p) && len(p) > 40 && p[6] == protoICMPv6 && p[40] == typ
}

// ip returns what is behind the Ethernet header.
func (f frame) ip() []byte {
	if len(f.data) < 14 {
		return nil
	}
	return f.data[14:]
}
