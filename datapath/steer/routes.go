package steer

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/datapath/steerable"
	"tnat64d/internal/cause"
	"tnat64d/internal/dump"
)

// RouteAction says what becomes of packets to a prefix.
type RouteAction uint8

const (
	RouteGateway     RouteAction = iota // to a router
	RouteOnLink                         // to the destination as a neighbour
	RouteKernelHop                      // to the next hop on the link that the kernel chooses (multipath)
	RouteUnreachable                    // dropped; the sender is told
	RouteProhibit                       // dropped; the sender is told that it is prohibited
	RouteBlackhole                      // dropped
)

// String returns the word for a in status.
func (a RouteAction) String() string {
	return [...]string{"gateway", "on-link", "multipath", "unreachable", "prohibit", "blackhole"}[a]
}

// Rejects reports whether no packet leaves by the route.
func (a RouteAction) Rejects() bool { return a >= RouteUnreachable }

// Route is a route of the host to a part of PREF64, or of the prefix of a network.
type Route struct {
	Prefix  netip.Prefix // IPv6
	Action  RouteAction
	Link    int        // interface index; 0 if it rejects
	Gateway netip.Addr // of RouteGateway

	linkHeader bool
}

// MaxRoutes is how many of these routes are followed, the most specific first.
const MaxRoutes = 1024

// In the order of enum route_action in bpf/routes.h.
const (
	actReject uint32 = iota
	actGateway
	actOnLink
	actKernel
	actNoLinkHeader
)

// RoutesInside returns what the kernel does with packets from src, the CLAT
// address, to each part of PREF64 for which the host has a route of its own, in
// any table: its own choice, by rules and metrics, as for a program that sends
// IPv6. Prefixes of networks are treated likewise, and as a whole where the host has
// a route to them that is no part of a default route. Left out are routes that say
// that a part of PREF64 is on the link, if they are not an administrator's (see
// [Router]). More specific routes come first. left is the number of routes beyond MaxRoutes. Ask again when routes, rules
// or links change.
func RoutesInside(h *netlink.Handle, tun int, src netip.Addr, pref64 netip.Prefix, networks []netip.Prefix) (rs []Route, left int, err error) {
	prefixes, err := dump.Whole(5, 0, func() ([]insideRoute, error) { return routesInside(h, pref64, networks) })
	if err != nil {
		return nil, 0, &Error{"list the routes inside PREF64", err}
	}
	slices.SortFunc(prefixes, func(a, b insideRoute) int {
		return cmp.Or(cmp.Compare(b.prefix.Bits(), a.prefix.Bits()), a.prefix.Addr().Compare(b.prefix.Addr()))
	})
	prefixes = slices.CompactFunc(prefixes, func(a, b insideRoute) bool { return a.prefix == b.prefix })
	if len(prefixes) > MaxRoutes {
		left = len(prefixes) - MaxRoutes
		prefixes = prefixes[:MaxRoutes]
	}
	links := map[int]netlink.Link{}
	for i, p := range prefixes {
		example, ok := addressOf(p.prefix, prefixes[:i])
		if !ok {
			continue // more specific routes cover all of it
		}
		r, advertised, err := chosenRoute(h, tun, src, example, links)
		if err != nil {
			return nil, 0, &Error{"ask for the route to " + example.String(), err}
		}
		// The prefix of a network may be one of the link (explicit address mappings).
		if advertised && !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Overlaps(p.prefix) }) {
			continue
		}
		r.Prefix = p.prefix
		if p.hops > 1 && !r.Action.Rejects() && r.linkHeader {
			r.Action, r.Gateway = RouteKernelHop, netip.Addr{}
		}
		rs = append(rs, r)
	}
	return rs, left, nil
}

// insideRoute is a destination that some table has a route to.
type insideRoute struct {
	prefix netip.Prefix
	hops   int // more than 1 if that is not known
}

// defaultPart is the length of the longest prefix that counts as a part of a default
// route: 2000::/3 is all of the global unicast space.
const defaultPart = 3

// routesInside lists the destinations inside PREF64 and the prefixes of networks to
// which there are routes, and those prefixes if a route leads to all of them.
func routesInside(h *netlink.Handle, pref64 netip.Prefix, networks []netip.Prefix) (all []insideRoute, err error) {
	around := map[netip.Prefix]insideRoute{} // by network: the most specific route to all of it
	// Linux 4.20 and later; without it the kernel also gives its caches.
	_ = h.SetStrictCheck(true)
	defer func() { _ = h.SetStrictCheck(false) }()
	filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	err = h.RouteListFilteredIter(netlink.FAMILY_V6, filter, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		if r.Dst == nil || r.Table == unix.RT_TABLE_LOCAL {
			return true
		}
		ones, bits := r.Dst.Mask.Size()
		a, ok := netip.AddrFromSlice(r.Dst.IP)
		if !ok || bits != 128 {
			return true
		}
		to := insideRoute{netip.PrefixFrom(a, ones).Masked(), hopsOf(r)}
		inside := ones >= pref64.Bits() && pref64.Contains(a)
		for _, n := range networks {
			switch {
			case ones >= n.Bits():
				inside = inside || n.Contains(a)
			case ones > defaultPart && to.prefix.Contains(n.Addr()) && ones > around[n].prefix.Bits():
				around[n] = to
			}
		}
		if inside {
			all = append(all, to)
		}
		return true
	})
	for n, to := range around {
		if !slices.ContainsFunc(all, func(r insideRoute) bool { return r.prefix == n }) {
			all = append(all, insideRoute{n, to.hops})
		}
	}
	return all, err
}

// hopsOf returns the number of next hops of r. Of a route by a nexthop object the
// kernel may tell none (sysctl nexthop_compat_mode 0): there may be several.
func hopsOf(r netlink.Route) int {
	if r.Type == unix.RTN_UNICAST && r.LinkIndex == 0 && len(r.MultiPath) == 0 {
		return 2
	}
	return max(1, len(r.MultiPath))
}

// maxSteps is how many more specific routes addressOf steps over.
const maxSteps = 256

// addressOf returns an address of p that is in none of the others, which are at
// least as specific. It reports false if they cover p, or nearly so.
func addressOf(p netip.Prefix, others []insideRoute) (netip.Addr, bool) {
	a := p.Addr()
	for range maxSteps {
		if !p.Contains(a) {
			break
		}
		i := slices.IndexFunc(others, func(o insideRoute) bool { return o.prefix.Contains(a) })
		if i < 0 {
			return a, true
		}
		if a = lastOf(others[i].prefix).Next(); !a.IsValid() {
			break
		}
	}
	return netip.Addr{}, false
}

// lastOf returns the last address of an IPv6 prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As16()
	for i := p.Bits(); i < 128; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom16(b)
}

// chosenRoute asks the kernel for the route to dst. A lack of memory is an error
// and no route that rejects. advertised reports whether it is one that any station on
// the link can make the kernel add.
func chosenRoute(h *netlink.Handle, tun int, src, dst netip.Addr, links map[int]netlink.Link) (r Route, advertised bool, err error) {
	got, err := FIBRoute(h, 0, src, dst)
	switch {
	case cause.Of(err) == cause.Resource:
		return Route{}, false, err
	case errors.Is(err, unix.EINVAL):
		return Route{Action: RouteBlackhole}, false, nil
	case errors.Is(err, unix.EACCES):
		return Route{Action: RouteProhibit}, false, nil
	case err != nil || got == nil:
		return Route{Action: RouteUnreachable}, false, nil
	}
	r = Route{Action: RouteOnLink, Link: got.LinkIndex}
	l, known := links[r.Link]
	if !known {
		l, err = h.LinkByIndex(r.Link)
		if cause.Of(err) == cause.Resource {
			return Route{}, false, err
		}
		links[r.Link] = l
	}
	if err != nil || l == nil || r.Link == tun {
		return Route{Action: RouteUnreachable}, false, nil
	}
	if r.linkHeader, err = steerable.LinkHeader(l); err != nil || l.Attrs().Flags&net.FlagLoopback != 0 {
		return Route{Action: RouteUnreachable}, false, nil
	}
	if gateway, ok := netip.AddrFromSlice(got.Gw); ok {
		r.Action, r.Gateway = RouteGateway, gateway
	}
	return r, advertisedOnLink(*got), nil
}

// value is r as the programs want it.
func (r Route) value() bpfRoute {
	v := bpfRoute{Ifindex: uint32(r.Link)}
	switch {
	case r.Action.Rejects():
		v.Action = actReject
	case !r.linkHeader:
		v.Action = actNoLinkHeader
	case r.Action == RouteGateway:
		v.Action = actGateway
		v.Hop.Family, v.Hop.Addr = unix.AF_INET6, r.Gateway.As16()
	case r.Action == RouteOnLink:
		v.Action = actOnLink
	default:
		v.Action = actKernel
	}
	return v
}

// SetRoutes makes the exceptions from SetRouter equal to rs; calling it again with
// the same is harmless. Packets to what a route rejects are left to user space.
// After an error call it again: it continues where it stopped.
func (s *Steering) SetRoutes(rs []Route) error {
	want := make(map[netip.Prefix]Route, len(rs))
	for _, r := range rs {
		if err := steerable.CheckPrefix(r.Prefix); err != nil {
			return &Error{"set the routes inside PREF64", err}
		}
		want[r.Prefix.Masked()] = r
	}
	if err := s.lookForRoutes(len(want)+len(s.routes) > 0); err != nil {
		return err
	}
	for p := range s.routes {
		if _, ok := want[p]; ok {
			continue
		}
		if err := s.objects.Routes.Delete(prefixKey(p)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return &Error{fmt.Sprintf("remove the route to %s", p), err}
		}
		delete(s.routes, p)
	}
	for p, r := range want {
		if had, ok := s.routes[p]; ok && had == r {
			continue
		}
		if err := s.objects.Routes.Put(prefixKey(p), r.value()); err != nil {
			return &Error{fmt.Sprintf("set the route to %s", p), err}
		}
		if s.routes == nil {
			s.routes = map[netip.Prefix]Route{}
		}
		s.routes[p] = r
	}
	return s.lookForRoutes(len(want) > 0)
}
