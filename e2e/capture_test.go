package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// TestCapture captures on the TUN, as tcpdump does: both directions are seen, and
// the kernel engine takes over again afterwards.
func TestCapture(t *testing.T) {
	t.Parallel()
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		engine := w.wantState(t, lab.Uplink, control.Up).CLAT.Engine

		t.Run("promiscuous", func(t *testing.T) {
			fd := w.capture(t, true)
			w.wantEngine(t, "user")
			w.ping(t)
			out, in := captured(t, fd)
			if out < 3 || in < 3 {
				t.Errorf("%d packets out and %d in were seen of 3", out, in)
			}
			if c := w.wantState(t, lab.Uplink, control.Up).CLAT; engine == "kernel" && c.EngineWhy != "while a program captures packets on "+c.TUN {
				t.Errorf("status says %q", c.EngineWhy)
			}
			unix.Close(fd)
			w.wantEngine(t, engine)
			w.ping(t)
		})
		t.Run("not promiscuous", func(t *testing.T) {
			fd := w.capture(t, false)
			// The kernel does not announce it; the next change of any kind does.
			w.changeLink(t)
			w.wantEngine(t, "user")
			w.ping(t)
			if out, in := captured(t, fd); out < 3 || in < 3 {
				t.Errorf("%d packets out and %d in were seen of 3", out, in)
			}
			unix.Close(fd)
			w.changeLink(t)
			w.wantEngine(t, engine)
		})
	})
}

// capture opens a packet socket on the TUN.
func (w *world) capture(t *testing.T, promiscuous bool) (fd int) {
	t.Helper()
	protocol := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	err := w.Laptop.Do(func() error {
		l, err := netlink.LinkByName(w.clat.TUN)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: l.Attrs().Index})
		if err == nil && promiscuous {
			err = unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
				&unix.PacketMreq{Ifindex: int32(l.Attrs().Index), Type: unix.PACKET_MR_PROMISC})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// captured counts the echo messages between the CLAT and the server that a
// packet socket has seen.
func captured(t *testing.T, fd int) (out, in int) {
	t.Helper()
	b := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if errors.Is(err, unix.EAGAIN) {
			return out, in
		}
		if err != nil {
			t.Fatal(err)
		}
		if n < 20 || b[0] != 0x45 || b[9] != unix.IPPROTO_ICMP {
			continue
		}
		src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		switch lab.ServerIPv4 {
		case dst:
			out++
		case src:
			in++
		}
	}
}

// wantEngine waits until the other packets are translated by an engine.
func (w *world) wantEngine(t *testing.T, engine string) {
	t.Helper()
	eventually(t, startTimeout, func() error {
		u, err := w.status(lab.Uplink)
		if err == nil && (u.CLAT == nil || u.CLAT.Engine != engine) {
			err = fmt.Errorf("the engine is not %s: %+v", engine, u.CLAT)
		}
		return err
	})
}

// changeLink makes the kernel announce a change that is nothing to the CLAT.
func (w *world) changeLink(t *testing.T) {
	t.Helper()
	err := w.Laptop.Do(func() error {
		l, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetAlias(l, "changed"), netlink.LinkSetAlias(l, ""))
	})
	if err != nil {
		t.Fatal(err)
	}
}
