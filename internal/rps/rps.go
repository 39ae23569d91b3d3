// Package rps makes veth interfaces receive packets in order.
package rps

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// OneProcessor steers what the veth interfaces of the calling thread's network
// namespace, of which h is a handle, receive to the first processor (RPS). They then
// deliver packets in the order in which they were sent, as cables between interfaces
// with one receive queue do. By itself the end of a veth pair receives on the processor
// of the sender: what a program sends after it has moved to another processor can
// overtake what waits on the first, above all before Linux 6.5, where packets wait for
// ksoftirqd once it runs.
func OneProcessor(h *netlink.Handle) error {
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("list the interfaces: %w", err)
	}
	// A mount of its own, which nobody sees: /sys shows the interfaces of the
	// namespace in which it was mounted.
	fs, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open sysfs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("make sysfs: %w", err)
	}
	sys, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mount sysfs: %w", err)
	}
	defer unix.Close(sys)
	for _, link := range links {
		if link.Type() != "veth" {
			continue
		}
		path := fmt.Sprintf("class/net/%s/queues/rx-0/rps_cpus", link.Attrs().Name)
		fd, err := unix.Openat(sys, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		_, err = unix.Write(fd, []byte("1"))
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}
