package lab

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routing is the routing table of a host.
type routing struct{ links *interfaces }

// route adds a route through a gateway, or straight onto the link if via is
// the zero Addr.
func (r routing) route(dst netip.Prefix, ifname string, via netip.Addr) error {
	link, err := r.links.Netlink.LinkByName(ifname)
	if err == nil {
		route := &netlink.Route{Dst: ipNet(dst), LinkIndex: link.Attrs().Index}
		if via.IsValid() {
			route.Gw = via.AsSlice()
		}
		err = r.links.Netlink.RouteReplace(route)
	}
	if err != nil {
		return fmt.Errorf("route to %s on %s:%s: %w", dst, r.links.Name, ifname, err)
	}
	return nil
}

// unroute removes the route to dst, wherever it leads.
func (r routing) unroute(dst netip.Prefix) error {
	if err := r.links.Netlink.RouteDel(&netlink.Route{Dst: ipNet(dst)}); err != nil {
		return fmt.Errorf("remove route to %s on %s: %w", dst, r.links.Name, err)
	}
	return nil
}

// blackhole drops what goes to dst.
func (r routing) blackhole(dst netip.Prefix) error {
	if err := r.links.Netlink.RouteAdd(&netlink.Route{Dst: ipNet(dst), Type: unix.RTN_BLACKHOLE}); err != nil {
		return fmt.Errorf("black hole for %s on %s: %w", dst, r.links.Name, err)
	}
	return nil
}

// routesVia reports whether the host has an IPv6 default route to that router.
func (r routing) routesVia(ifname string, router netip.Addr) (bool, error) {
	link, err := r.links.Netlink.LinkByName(ifname)
	if err != nil {
		return false, fmt.Errorf("routes of %s: %w", r.links.Name, err)
	}
	routes, err := whole(func() ([]netlink.Route, error) { return r.links.Netlink.RouteList(nil, netlink.FAMILY_V6) })
	if err != nil {
		return false, fmt.Errorf("routes of %s: %w", r.links.Name, err)
	}
	for _, route := range routes {
		if !isDefault(route) {
			continue
		}
		// Several routers of one metric are one route of several hops.
		hops := append(route.MultiPath, &netlink.NexthopInfo{LinkIndex: route.LinkIndex, Gw: route.Gw})
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
