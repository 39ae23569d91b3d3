package steer

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/dump"
)

// Router returns what [Steering.SetRouter] should be given for packets from
// src, the CLAT address, to dst, an address behind the PLAT: the next hop of
// the uplink's own best route, or the zero Addr to leave the choice to the
// host's routes. Ask again when routes or rules change.
//
// There are two reasons not to leave it to them. bpf_redirect_neigh asks the
// routes and does not insist that what they say belongs to the uplink: on a
// host with a second, preferred link or with a VPN that takes the default route
// it would look for the other link's router on this one. And it asks for every
// packet, which costs about a tenth of what sending a small one takes.
//
// Where the routes lead out of the uplink and name several routers the kernel
// has to choose, because it knows which of them are reachable. An exception is
// via, the router that advertises the PREF64, if it is valid: it is chosen if
// dst takes a default route and via is the next hop of one. Source prefix,
// PREF64 and next hop of one router belong together (RFC 8028).
//
// A route of the kernel's own that says that dst is on the link is not
// followed: what is behind a PLAT is not, and any station can make the kernel
// add such a route with a router advertisement.
func Router(h *netlink.Handle, uplink int, src, dst, via netip.Addr) (netip.Addr, error) {
	chosen, err := FIBRoute(h, uplink, src, dst)
	leadsOut := err == nil && chosen != nil && chosen.LinkIndex == uplink

	routes, err := dump.Whole(5, 0, func() ([]netlink.Route, error) { return routesTo(h, uplink, dst) })
	if err != nil {
		return netip.Addr{}, &Error{"list the routes", err}
	}
	all := len(routes)
	routes = slices.DeleteFunc(routes, advertisedOnLink)
	ignored := len(routes) < all
	hops, length, elsewhere := bestHops(routes, uplink, dst)
	onLink := leadsOut && len(chosen.Gw) == 0
	switch {
	case onLink && (!ignored || slices.Contains(hops, dst)):
		return netip.Addr{}, nil // another destination, another next hop
	case !leadsOut && len(hops) == 0:
		return netip.Addr{}, &Error{"choose a router", fmt.Errorf("no route to %s leads out of interface %d", dst, uplink)}
	case len(hops) > 0 && length == 0 && isNextHop(routes, uplink, via):
		return via, nil
	case (ignored || elsewhere) && len(hops) > 0:
		return hops[0], nil
	case leadsOut && (len(hops) != 1 || !net.IP(hops[0].AsSlice()).Equal(chosen.Gw)):
		return netip.Addr{}, nil
	}
	return hops[0], nil
}

// advertisedOnLink reports whether r says that a network is on the link, as
// routers advertise it or as an address of the host implies it. A default route
// without a router can be a network manager's, for a point-to-point link; the kernel
// adds one only if somebody advertises the prefix ::/0.
func advertisedOnLink(r netlink.Route) bool {
	return len(r.Gw) == 0 && r.Via == nil && len(r.MultiPath) == 0 &&
		(r.Protocol == unix.RTPROT_KERNEL || r.Protocol == unix.RTPROT_RA && prefixLen(r) > 0)
}

// bestHops returns the next hops out of the uplink of the best of the routes and of
// those that are as good, and their prefix length. elsewhere reports whether these
// have next hops on other links as well.
func bestHops(routes []netlink.Route, uplink int, dst netip.Addr) (hops []netip.Addr, length int, elsewhere bool) {
	var best netlink.Route
	for _, r := range routes {
		next := nextHops(r, uplink, dst)
		switch {
		case len(next) == 0 || len(hops) > 0 && better(best, r):
			continue
		case len(hops) == 0 || better(r, best):
			best, hops, elsewhere = r, nil, false
		}
		elsewhere = elsewhere || slices.ContainsFunc(r.MultiPath, func(p *netlink.NexthopInfo) bool { return p.LinkIndex != uplink })
		for _, hop := range next {
			if !slices.Contains(hops, hop) {
				hops = append(hops, hop)
			}
		}
	}
	return hops, prefixLen(best), elsewhere
}

// isNextHop reports whether via is the next hop of a default route out of the
// uplink, however bad its metric.
func isNextHop(routes []netlink.Route, uplink int, via netip.Addr) bool {
	return via.IsValid() && slices.ContainsFunc(routes, func(r netlink.Route) bool {
		return prefixLen(r) == 0 && slices.Contains(nextHops(r, uplink, netip.Addr{}), via)
	})
}

// routesTo lists the routes out of the uplink that fit dst. The kernel itself
// leaves out those of other links, where [netlink.Handle] would be slow; there
// may be 200,000 of them.
func routesTo(h *netlink.Handle, uplink int, dst netip.Addr) (fit []netlink.Route, err error) {
	// Linux 4.20 and later; the rest is left out here in any case.
	_ = h.SetStrictCheck(true)
	defer func() { _ = h.SetStrictCheck(false) }()
	// The table is left open: managers keep routes in tables of their own. And
	// the link is asked of the kernel only: netlink's own filter does not look
	// into multipath routes.
	filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC, LinkIndex: uplink}
	err = h.RouteListFilteredIter(netlink.FAMILY_V6, filter, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		if len(nextHops(r, uplink, dst)) > 0 {
			fit = append(fit, r)
		}
		return true
	})
	return fit, err
}

// nextHops returns where r sends dst out of the uplink; an invalid dst fits
// every route.
func nextHops(r netlink.Route, uplink int, dst netip.Addr) (hops []netip.Addr) {
	if r.Type != unix.RTN_UNICAST || dst.IsValid() && r.Dst != nil && !r.Dst.Contains(dst.AsSlice()) {
		return nil
	}
	paths := r.MultiPath
	if len(paths) == 0 {
		paths = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}
	}
	for _, p := range paths {
		gateway, ok := netip.AddrFromSlice(p.Gw)
		switch {
		case p.LinkIndex != uplink:
			continue
		case !ok:
			gateway = dst // on the link
		}
		hops = append(hops, gateway)
	}
	return hops
}

// better says whether a is more specific than b or, being as specific, has
// the lower metric.
func better(a, b netlink.Route) bool {
	if x, y := prefixLen(a), prefixLen(b); x != y {
		return x > y
	}
	return a.Priority < b.Priority
}

func prefixLen(r netlink.Route) int {
	if r.Dst == nil {
		return 0
	}
	ones, _ := r.Dst.Mask.Size()
	return ones
}
