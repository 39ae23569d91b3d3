package plat

import (
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/nexthop"
)

// global has a global IPv4 destination in each half of the address space: a VPN's
// two routes to 0.0.0.0/1 and 128.0.0.0/1 are used instead of a default route.
var global = []net.IP{{44, 61, 157, 33}, {151, 199, 83, 205}}

// defaultOutside returns the interfaces by which IPv4 packets leave the host: all
// next hops of the default routes with the best metric of the main table, and what
// the kernel chooses for global destinations, which may be by another table or by
// parts of a default route. The TUN and the loopback interface are none.
func defaultOutside(h *netlink.Handle, links []netlink.Link, tun string) (names []string, err error) {
	indexes, err := defaultLinks(h)
	if err != nil {
		return nil, err
	}
	for _, to := range global {
		routes, err := h.RouteGet(to)
		if err != nil {
			continue // unreachable
		}
		for _, r := range routes {
			indexes = append(indexes, r.LinkIndex)
		}
	}
	for _, l := range links {
		a := l.Attrs()
		if slices.Contains(indexes, a.Index) && a.Name != tun && a.Flags&net.FlagLoopback == 0 {
			names = append(names, a.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// defaultLinks returns the indexes of the links of the IPv4 default routes with the
// best metric in the main table.
func defaultLinks(h *netlink.Handle) (indexes []int, err error) {
	routes, err := h.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list the routes: %w", err)
	}
	routes = slices.DeleteFunc(routes, func(r netlink.Route) bool { return bits(r) > 0 })
	if err := (nexthop.Client{}).Complete(unix.AF_INET, routes); err != nil {
		return nil, fmt.Errorf("list the nexthop objects: %w", err)
	}
	best := -1
	for _, r := range routes {
		if best < 0 || r.Priority < best {
			best, indexes = r.Priority, nil
		}
		if r.Priority > best {
			continue
		}
		indexes = append(indexes, r.LinkIndex)
		for _, hop := range r.MultiPath {
			indexes = append(indexes, hop.LinkIndex)
		}
	}
	return indexes, nil
}

// bits returns the prefix length of a route.
func bits(r netlink.Route) int {
	if r.Dst == nil {
		return 0
	}
	ones, _ := r.Dst.Mask.Size()
	return ones
}

// matters reports whether a route that is added or removed is a default route, a
// half of one, or ours: a router that learns routes by BGP must not read the host's
// lists for each.
func matters(r netlink.Route) bool { return bits(r) <= 1 || r.Protocol == routeProtocol }
