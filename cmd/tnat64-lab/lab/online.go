package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// waitOnline waits until the laptop has settled: it has a global IPv6 address
// and a default route, and all addresses passed duplicate address detection.
func (l *Lab) waitOnline(ctx context.Context) error {
	// The kernel ignores RAs until the link is ready for IPv6, and asks for
	// one only after a random second. So advertise now and then meanwhile.
	for try := 0; ; try++ {
		addr, err := l.LaptopAddress()
		if err != nil {
			return err
		}
		settled, err := l.Laptop.settled()
		if err != nil {
			return err
		}
		routed, err := l.Laptop.hasDefaultRoute(netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		if addr.IsValid() && settled && routed {
			return nil
		}
		if !routed && try%5 == 4 {
			l.sendAdvert()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("laptop did not get online: %w", context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// LaptopAddress returns the laptop's own global IPv6 address from SLAAC, or
// the zero Addr while there is none that may be used.
func (l *Lab) LaptopAddress() (netip.Addr, error) {
	addrs, err := l.Laptop.addresses(Uplink, netlink.FAMILY_V6)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		if LaptopLink.Contains(ip) && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED|unix.IFA_F_DEPRECATED) == 0 {
			return ip, nil
		}
	}
	return netip.Addr{}, nil
}

// settled reports whether no address is tentative any more.
func (h *Host) settled() (bool, error) {
	addrs, err := h.addresses("", netlink.FAMILY_V6)
	tentative := func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }
	return !slices.ContainsFunc(addrs, tentative), err
}

// addresses lists the addresses of an interface, or of all if ifname is empty.
func (h *Host) addresses(ifname string, family int) ([]netlink.Addr, error) {
	var link netlink.Link
	if ifname != "" {
		var err error
		if link, err = h.Netlink.LinkByName(ifname); err != nil {
			return nil, fmt.Errorf("%s:%s: %w", h.Name, ifname, err)
		}
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return h.Netlink.AddrList(link, family) })
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", h.Name, err)
	}
	return addrs, nil
}

// hasDefaultRoute reports whether the host has a default route of the family
// (netlink.FAMILY_V4 or FAMILY_V6) in its main table.
func (h *Host) hasDefaultRoute(family int) (bool, error) {
	routes, err := dump(func() ([]netlink.Route, error) { return h.Netlink.RouteList(nil, family) })
	if err != nil {
		return false, fmt.Errorf("routes of %s: %w", h.Name, err)
	}
	for _, r := range routes {
		if isDefault(r) {
			return true, nil
		}
	}
	return false, nil
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
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
