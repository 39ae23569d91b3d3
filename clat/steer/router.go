package steer

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Router returns what [Steering.SetRouter] should be given for packets from
// src, the CLAT address, to dst, an address behind the PLAT: the zero Addr if
// the host's routes lead out of the uplink by themselves, else the next hop of
// the uplink's own best route.
//
// bpf_redirect_neigh asks the routes for a next hop and does not insist that
// the route belongs to the uplink: on a host with a second, preferred link or
// with a VPN that takes the default route it would look for the other link's
// router on this one. Ask again when routes or rules change.
func Router(h *netlink.Handle, uplink int, src, dst netip.Addr) (netip.Addr, error) {
	chosen, err := h.RouteGetWithOptions(net.IP(dst.AsSlice()), &netlink.RouteGetOptions{
		OifIndex: uplink,
		SrcAddr:  net.IP(src.AsSlice()),
	})
	if err == nil && len(chosen) > 0 && chosen[0].LinkIndex == uplink {
		return netip.Addr{}, nil
	}

	routes, err := dump(func() ([]netlink.Route, error) {
		// The table is left open: managers keep routes in tables of their own.
		return h.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return netip.Addr{}, &Error{"list the routes", err}
	}
	var best netlink.Route
	var via netip.Addr
	for _, r := range routes {
		next, ok := nextHop(r, uplink, dst)
		if ok && (!via.IsValid() || better(r, best)) {
			best, via = r, next
		}
	}
	if !via.IsValid() {
		return netip.Addr{}, &Error{"choose a router", fmt.Errorf("no route to %s leads out of interface %d", dst, uplink)}
	}
	return via, nil
}

// nextHop returns where r sends dst if that is out of the uplink.
func nextHop(r netlink.Route, uplink int, dst netip.Addr) (netip.Addr, bool) {
	if r.Type != unix.RTN_UNICAST || r.Dst != nil && !r.Dst.Contains(dst.AsSlice()) {
		return netip.Addr{}, false
	}
	gateway, ok := r.Gw, r.LinkIndex == uplink
	for _, n := range r.MultiPath {
		if !ok && n.LinkIndex == uplink {
			gateway, ok = n.Gw, true
		}
	}
	if !ok {
		return netip.Addr{}, false
	}
	if len(gateway) == 0 {
		return dst, true // on the link
	}
	return netip.AddrFromSlice(gateway)
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
