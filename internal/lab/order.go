package lab

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// KeepOrder makes the links of the lab as they are now deliver packets in the
// order in which they were sent, as cables between interfaces with one receive
// queue do. By themselves the ends of a veth pair receive on the processor of
// the sender: what a program sends after it has moved to another processor can
// overtake what waits on the first, above all before Linux 6.5, where packets
// wait for ksoftirqd once it runs.
func (l *Lab) KeepOrder() error {
	hosts := []*Host{l.Laptop, l.ISP, l.Server}
	l.mu.Lock()
	for _, n := range l.networks {
		hosts = append(hosts, n.Router)
	}
	hosts = append(hosts, l.guests...)
	l.mu.Unlock()
	for _, h := range hosts {
		if err := h.receiveOnOneProcessor(); err != nil {
			return fmt.Errorf("receive on one processor in %s: %w", h.Name, err)
		}
	}
	return nil
}

// receiveOnOneProcessor steers what the host's veth interfaces receive to the
// first processor (RPS).
func (h *Host) receiveOnOneProcessor() error {
	links, err := h.Netlink.LinkList()
	if err != nil {
		return err
	}
	return h.Do(func() error {
		// A mount of its own, which nobody sees: /sys shows the interfaces of
		// the namespace in which it was mounted.
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
	})
}
