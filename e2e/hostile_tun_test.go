package e2e

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/lab"
)

// descriptor is the first file that asUserWith passes on.
const descriptor = 3

// attachTUN makes a descriptor of /dev/net/tun a queue of an interface.
func attachTUN(fd int, name string, flags uint16) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | flags)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
}

var _ = addAct("attach", func(args []string) (string, error) {
	// With the flags of the interface, and with others.
	var errs []error
	for _, flags := range []uint16{unix.IFF_MULTI_QUEUE | unix.IFF_VNET_HDR, unix.IFF_MULTI_QUEUE, unix.IFF_VNET_HDR} {
		err := attachTUN(descriptor, args[0], flags)
		if err == nil {
			return "attached", nil
		}
		errs = append(errs, err)
	}
	// What takes no more than being attached.
	for _, err := range []error{
		unix.IoctlSetPointerInt(descriptor, unix.TUNSETVNETHDRSZ, 12),
		unix.IoctlSetInt(descriptor, unix.TUNSETPERSIST, 1),
	} {
		if !errors.Is(err, unix.EBADFD) {
			return "", fmt.Errorf("a setting: %w", err)
		}
	}
	return "", errors.Join(errs...)
})

// TestHostileTUN lets a local user, for whom /dev/net/tun is open as on every
// distribution, attach to the TUN.
func TestHostileTUN(t *testing.T) {
	t.Parallel()
	eachSteering(t, testHostileTUN)
}

func testHostileTUN(t *testing.T, config string) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, config)
	node, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	if out, err := w.asUserWith(t, []*os.File{node}, "attach", w.clat.TUN); !errors.Is(err, unix.EPERM) {
		t.Errorf("a local user attaches to %s: %q, %v", w.clat.TUN, out, err)
	}
	link, err := w.Laptop.Netlink.LinkByName(w.clat.TUN)
	if err != nil {
		t.Fatal(err)
	}
	if tun, ok := link.(*netlink.Tuntap); !ok || !tun.NonPersist || tun.DisabledQueues != 0 {
		t.Errorf("the interface is %+v", link)
	}
	t.Run("before", w.page)

	// One that somebody has kept, who could.
	w.daemon.Kill()
	if err := w.keepTUN(w.clat.TUN); err != nil {
		t.Fatal(err)
	}
	w.start(built(t, "tnat64d"), true)
	t.Run("after", w.page)
	wants(t, w.book.String(), "removed a leftover TUN interface")
}

// keepTUN leaves a persistent TUN that looks like tnat64d's.
func (w *world) keepTUN(name string) error {
	err := w.Laptop.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := attachTUN(fd, name, unix.IFF_MULTI_QUEUE|unix.IFF_VNET_HDR); err != nil {
			return err
		}
		return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1)
	})
	if err != nil {
		return err
	}
	link, err := w.Laptop.Netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return w.Laptop.Netlink.LinkSetAlias(link, "tnat64d: CLAT on "+lab.Uplink)
}
