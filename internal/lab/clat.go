package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// CLAT is what the laptop has when its CLAT is up.
type CLAT struct {
	TUN    string
	IPv4   netip.Addr // on TUN
	IPv6   netip.Addr // on the uplink; the laptop's own if the CLAT shares that
	Uplink string
	Metric int // of the IPv4 default route
}

// clatFinder finds the CLATs of the laptop.
type clatFinder struct{ lab *Lab }

// WaitCLAT waits until the laptop's IPv4 default route leads into a TUN.
func (f *clatFinder) WaitCLAT(ctx context.Context) (CLAT, error) {
	all, err := f.WaitCLATs(ctx, 1)
	if err != nil {
		return CLAT{}, err
	}
	return all[0], nil
}

// WaitCLATs waits until the laptop has at least n CLATs.
func (f *clatFinder) WaitCLATs(ctx context.Context, n int) ([]CLAT, error) {
	for {
		all, err := f.FindCLATs()
		if err != nil || len(all) >= n {
			return all, err
		}
		select {
		case <-ctx.Done():
			return all, fmt.Errorf("%d of %d CLATs on the laptop: %w", len(all), n, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// FindCLAT returns the laptop's CLAT, the preferred one of several, or the
// zero value if there is none.
func (f *clatFinder) FindCLAT() (CLAT, error) {
	all, err := f.FindCLATs()
	if err != nil || len(all) == 0 {
		return CLAT{}, err
	}
	return all[0], nil
}

// FindCLATs returns the laptop's CLATs in the order of their metrics: the TUNs
// into which IPv4 default routes lead, except that of a VPN.
func (f *clatFinder) FindCLATs() ([]CLAT, error) {
	l := f.lab
	routes, err := whole(func() ([]netlink.Route, error) { return l.Laptop.Netlink.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("routes of the laptop: %w", err)
	}
	var all []CLAT
	for _, r := range routes {
		if !isDefault(r) {
			continue
		}
		link, err := l.Laptop.Netlink.LinkByIndex(r.LinkIndex)
		if err != nil || link.Type() != "tuntap" && link.Type() != "tun" || link.Attrs().Name == VPNInterface {
			continue
		}
		c := CLAT{TUN: link.Attrs().Name, Uplink: Uplink, Metric: r.Priority}
		if _, uplink, ok := strings.Cut(link.Attrs().Alias, ": CLAT on "); ok { // tnat64d says whose it is
			c.Uplink = uplink
		}
		addrs, err := l.Laptop.Addresses(c.TUN)
		if err != nil {
			continue // it has just gone
		}
		for _, a := range addrs {
			if a.Addr().Is4() {
				c.IPv4 = a.Addr()
			}
		}
		if addrs, err = l.Laptop.Addresses(c.Uplink); err != nil {
			addrs = nil // the CLAT outlives its uplink for a moment
		}
		for _, a := range addrs {
			if a.Addr().Is6() && a.Bits() == 128 && !f.leased(a.Addr()) {
				c.IPv6 = a.Addr()
			}
		}
		for _, a := range addrs {
			if !c.IPv6.IsValid() && a.Addr().Is6() && a.Addr().IsGlobalUnicast() {
				c.IPv6 = a.Addr()
			}
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b CLAT) int { return a.Metric - b.Metric })
	return all, nil
}

// leased reports whether an address is from a network's DHCPv6: the only other
// /128 on an uplink but the CLAT's.
func (f *clatFinder) leased(a netip.Addr) bool {
	l := f.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.networks, func(n *Network) bool { return dhcpv6(n.Link) == a })
}
