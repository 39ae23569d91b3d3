package tun

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// /dev/net/tun is open to everybody, and everybody may attach to a multi-queue
// TUN that has no owner. An interface gets its owner by an ioctl of its own, so
// that between TUNSETIFF and TUNSETOWNER another program may attach. Open gives
// it a name for that moment which nobody can know, and [Device.own] finds out.

// errForeign is the error of an interface to which another program attached
// before it had an owner.
var errForeign = errors.New("another program attached to it before it had an owner")

// claims is how often an interface is made anew for errForeign, each in about 10 ms:
// two programs that do nothing else attach in time to three of four.
const claims = 200

// temporaryName returns a name for the time until the interface has an owner.
// Nobody can know it before the interface is there. It begins like the name, so
// that patterns for that (clat*) match.
func temporaryName(name string) string {
	const random = 8
	stem := strings.TrimRight(strings.ReplaceAll(name, "%d", ""), "0123456789")
	return stem[:min(len(stem), unix.IFNAMSIZ-1-random)] + strings.ToLower(rand.Text()[:random])
}

// own makes this process's user the owner of the interface whose only
// descriptor is fd. From then on attaching takes that user or CAP_NET_ADMIN.
// The error is errForeign if another program has attached before and is
// attached still, or has left the interface in another state; what that state
// may be without being seen is set again.
func (d *Device) own(fd int) error {
	if err := unix.IoctlSetInt(fd, unix.TUNSETOWNER, os.Geteuid()); err != nil {
		return fmt.Errorf("set its owner: %w", err)
	}
	// Only after this look nobody else can make himself the owner, or a group,
	// which some kernels let in beside the owner (Linux 6.14).
	if err := d.check(1); err != nil {
		return err
	}
	// Whoever attaches may ask for other features, for all queues.
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return fmt.Errorf("TUNGETIFF: %w", err)
	}
	if ifr.Uint16()&^unix.IFF_TUN_EXCL != interfaceFlags {
		return errForeign
	}
	return reset(fd)
}

// check reports with errForeign that the interface is not this process's alone:
// that it has another owner, outlives its descriptors, or has another number of
// them.
func (d *Device) check(queues int) error {
	info, err := d.netlink.link(d.Index)
	switch {
	case err != nil:
		return fmt.Errorf("ask for its owner: %w", err)
	case info.owner != id{true, uint32(os.Geteuid())} || info.group.set,
		info.queues != queues || info.disabled != 0,
		info.persistent || info.deviceType != unix.ARPHRD_NONE:
		return errForeign
	}
	return nil
}

// reset gives the interface the settings that a Queue relies on and that
// neither netlink nor TUNGETIFF tells.
func reset(fd int) error {
	for _, s := range []struct {
		name    string
		request uint
		value   int
	}{
		{"TUNSETVNETHDRSZ", unix.TUNSETVNETHDRSZ, VnetHeaderLen},
		{"TUNSETSNDBUF", unix.TUNSETSNDBUF, math.MaxInt32},
		{"TUNSETVNETLE", unix.TUNSETVNETLE, 0},
		{"TUNSETVNETBE", unix.TUNSETVNETBE, 0},
		{"TUNSETSTEERINGEBPF", unix.TUNSETSTEERINGEBPF, -1}, // none
		{"TUNSETFILTEREBPF", unix.TUNSETFILTEREBPF, -1},
		{"TUNSETCARRIER", unix.TUNSETCARRIER, 1},
	} {
		err := unix.IoctlSetPointerInt(fd, s.request, s.value)
		// Most kernels have only one byte order (CONFIG_TUN_VNET_CROSS_LE).
		if err != nil && !(s.request == unix.TUNSETVNETBE && err == unix.EINVAL) {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// rename gives the interface, which is down, its name.
func rename(from, to string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	var ifr struct { // struct ifreq with ifr_newname
		name, newname [unix.IFNAMSIZ]byte
		_             [24 - unix.IFNAMSIZ]byte
	}
	copy(ifr.name[:unix.IFNAMSIZ-1], from)
	copy(ifr.newname[:unix.IFNAMSIZ-1], to)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCSIFNAME, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		return errno
	}
	return nil
}

// RemoveLeftovers removes TUN interfaces of the calling thread's network namespace
// whose alias has the prefix and that another program keeps: persistent ones, as
// Open makes none, and those without an owner, to which another program has
// attached. It returns their names. Those of a running process have an owner and
// are not persistent.
func RemoveLeftovers(aliasPrefix string) (removed []string, err error) {
	nl, err := openRtnetlink()
	if err != nil {
		return nil, err
	}
	defer nl.Close()
	all, err := nl.links()
	if err != nil {
		return nil, fmt.Errorf("list the TUN interfaces: %w", err)
	}
	var errs []error
	for _, l := range all {
		if !strings.HasPrefix(l.alias, aliasPrefix) || l.owner.set && !l.persistent {
			continue
		}
		if err := nl.remove(l.index); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove TUN interface %q: %w", l.name, err))
			continue
		}
		removed = append(removed, l.name)
	}
	return removed, errors.Join(errs...)
}
