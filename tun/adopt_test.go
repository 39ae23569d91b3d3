package tun

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// copies returns copies of the descriptors of all queues, as a process that keeps
// them has.
func copies(t *testing.T, d *Device) (fds []int) {
	t.Helper()
	for _, q := range d.Queues {
		err := q.Descriptor(func(fd int) error {
			fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			fds = append(fds, fd)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return fds
}

// ourAlias begins the alias of interfaces to adopt.
const ourAlias = "ours: "

// setAlias gives an interface an alias.
func setAlias(t *testing.T, h *netlink.Handle, name, alias string) {
	t.Helper()
	l, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkSetAlias(l, alias)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAdopt(t *testing.T) {
	h := enterNetns(t)
	d := openUp(t, h, 2)
	setAlias(t, h, d.Name, ourAlias+"CLAT")
	fds := copies(t, d)
	reader := readInBackground(d.Queues[0])
	for _, q := range d.Queues {
		if err := q.Interrupt(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-reader; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an interrupted reader returns %v", err)
	}
	if err := d.Release(); err != nil {
		t.Fatal(err)
	}

	// Nobody reads now.
	const sent = 20
	for i := range sent {
		if _, err := dial(t, uint16(2000+i)).Write([]byte("waiting")); err != nil {
			t.Fatal(err)
		}
	}
	next, err := Adopt(fds, ourAlias)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if next.Name != d.Name || next.Index != d.Index || len(next.Queues) != 2 || next.Offloads != d.Offloads {
		t.Errorf("adopted %+v, was %+v", next, d)
	}
	got := map[uint16]bool{}
	for _, q := range next.Queues {
		for !q.Empty() {
			buf := make([]byte, 1<<16)
			n, _, err := q.Read(buf, VnetHeaderLen)
			if err != nil {
				t.Fatal(err)
			}
			if p := buf[VnetHeaderLen:][:n]; p[0]>>4 == 4 && p[9] == unix.IPPROTO_UDP {
				port, _ := udp(t, p)
				got[port] = true // of the sender
			}
		}
	}
	if len(got) != sent {
		t.Errorf("%d of %d packets were waiting: %v", len(got), sent, got)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	if _, err := h.LinkByName(d.Name); err == nil {
		t.Error("the interface is there after Close")
	}
}

func TestAdoptRefuses(t *testing.T) {
	open := func(t *testing.T, h *netlink.Handle, name string) *Device {
		d, err := Open(name, 2)
		if err != nil {
			t.Fatal(err)
		}
		setAlias(t, h, name, ourAlias)
		t.Cleanup(func() { d.Close() })
		return d
	}
	for _, c := range []struct {
		name string
		fds  func(t *testing.T, h *netlink.Handle) []int
	}{
		{"another device", func(t *testing.T, _ *netlink.Handle) []int {
			fd, err := unix.Open("/dev/null", unix.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			return []int{fd}
		}},
		{"no interface", func(t *testing.T, _ *netlink.Handle) []int {
			fd, err := unix.Open(clonePath, unix.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			return []int{fd}
		}},
		{"an interface that is gone", func(t *testing.T, h *netlink.Handle) []int {
			d := open(t, h, "clat0")
			fds := copies(t, d)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			return fds
		}},
		{"a TAP", func(t *testing.T, _ *netlink.Handle) []int {
			return []int{rawInterface(t, unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR|unix.IFF_MULTI_QUEUE)}
		}},
		{"without virtio-net headers", func(t *testing.T, _ *netlink.Handle) []int {
			return []int{rawInterface(t, unix.IFF_TUN|unix.IFF_NO_PI|unix.IFF_MULTI_QUEUE)}
		}},
		{"without owner", func(t *testing.T, _ *netlink.Handle) []int {
			fd := rawInterface(t, interfaceFlags)
			if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, VnetHeaderLen); err != nil {
				t.Fatal(err)
			}
			return []int{fd}
		}},
		{"a queue is missing", func(t *testing.T, h *netlink.Handle) []int { return copies(t, open(t, h, "clat0"))[:1] }},
		{"another alias", func(t *testing.T, h *netlink.Handle) []int {
			d := open(t, h, "clat0")
			setAlias(t, h, d.Name, "somebody's")
			return copies(t, d)
		}},
		{"queues of two interfaces", func(t *testing.T, h *netlink.Handle) []int {
			return []int{copies(t, open(t, h, "clat0"))[0], copies(t, open(t, h, "clat1"))[0]}
		}},
		{"another network namespace", func(t *testing.T, h *netlink.Handle) []int {
			fds := copies(t, open(t, h, "clat0"))
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil { // the thread ends with the test
				t.Fatal(err)
			}
			return fds
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := enterNetns(t)
			fds := c.fds(t, h)
			if d, err := Adopt(fds, ourAlias); err == nil {
				d.Close()
				t.Fatal("it is adopted")
			} else {
				t.Log(err)
			}
			for _, fd := range fds {
				if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
					t.Error("a descriptor is open still")
				}
			}
		})
	}
}

// rawInterface returns a descriptor of a new interface with these flags.
func rawInterface(t *testing.T, flags uint16) int {
	t.Helper()
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ifr, err := unix.NewIfreq("clat0")
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestInterruptedQueueWrites writes to a queue whose reading has ended.
func TestInterruptedQueueWrites(t *testing.T) {
	h := enterNetns(t)
	q := openUp(t, h, 1).Queues[0]
	if err := q.Interrupt(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for range 2 {
		start := time.Now()
		if _, _, err := q.Read(buf, VnetHeaderLen); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read returns %v after %v", err, time.Since(start))
		}
	}
	packet := []byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0, 192, 0, 0, 2, 192, 0, 0, 1}
	if err := q.Write(append(make([]byte, VnetHeaderLen), packet...), VnetHeaderLen, VnetHeader{}); err != nil {
		t.Error(err)
	}
}
