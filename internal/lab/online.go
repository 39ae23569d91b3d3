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
		settled, err := n.lab.Laptop.settled()
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

// routesVia reports whether the host has an IPv6 default route to that router.
func (h *Host) routesVia(ifname string, router netip.Addr) (bool, error) {
	link, err := h.Netlink.LinkByName(ifname)
	if err != nil {
		return false, fmt.Errorf("routes of %s: %w", h.Name, err)
	}
	routes, err := dump(func() ([]netlink.Route, error) { return h.Netlink.RouteList(nil, netlink.FAMILY_V6) })
	if err != nil {
		return false, fmt.Errorf("routes of %s: %w", h.Name, err)
	}
	for _, r := range routes {
		if !isDefault(r) {
			continue
		}
		// Several routers of one metric are one route of several hops.
		hops := append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: r.LinkIndex, Gw: r.Gw})
		for _, hop := range hops {
			if hop.LinkIndex == link.Attrs().Index && hop.Gw.Equal(router.AsSlice()) {
				return true, nil
			}
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
