package lab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// WaitOnline waits until the laptop has settled on this network: it has a
// global IPv6 address and a default route, if the network has these to offer,
// and all addresses passed duplicate address detection.
func (n *Network) WaitOnline(ctx context.Context) error {
	// The kernel ignores RAs until the link is ready for IPv6, and asks for
	// one only after a random second. So advertise now and then meanwhile.
	for try := 0; ; try++ {
		addr, err := n.LaptopAddress()
		if err != nil {
			return err
		}
		settled, err := settled(n.lab.Laptop)
		if err != nil {
			return err
		}
		routed := n.options.NoDefaultRouter
		if !routed {
			if routed, err = n.lab.Laptop.routesVia(n.Attached(), n.Local); err != nil {
				return err
			}
		}
		if addr.IsValid() && settled && routed {
			return nil
		}
		if (!routed || !addr.IsValid()) && try%5 == 4 {
			n.sendAdvert()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("laptop did not get online on %s: %w", n.Name, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// settled reports whether no address of a host is tentative any more.
func settled(h *Host) (bool, error) {
	addrs, err := h.addresses("", netlink.FAMILY_V6)
	tentative := func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }
	return !slices.ContainsFunc(addrs, tentative), err
}

// dump repeats a netlink dump that a change has interrupted, a few times; the
// last attempt's partial answer is then as good as any.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for range 5 {
		all, err := list()
		if err != netlink.ErrDumpInterrupted {
			return all, err
		}
	}
	all, err := list()
	if err == netlink.ErrDumpInterrupted {
		err = nil
	}
	return all, err
}
