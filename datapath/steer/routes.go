package steer

import (
	"cmp"
	"errors"
	"fmt"
	"math"
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

// RouteAction says how packets to a prefix are handled.
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
	Gateway netip.Addr // of RouteGateway; of RouteKernelHop the one that the kernel chooses now
	MTU     int        // bytes: the smaller one of the link's and the route's; 0: not known

	linkHeader bool
}

// minMTU6 is the smallest MTU of IPv6 (RFC 8200 section 5).
const minMTU6 = 1280

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
// any table, or a rule: its own choice, by rules and metrics, as for a program that
// sends IPv6. PREF64 and the prefixes of networks are treated likewise as a whole where
// the host has a route or a rule for them that is no part of a default route. What the
// kernel chooses by anything but addresses, such as a firewall mark, is not considered.
// Left out are routes that say that a part of PREF64 is on the link, if they are not an
// administrator's (see [Router]). More specific routes come first. left is the number of
// routes beyond MaxRoutes. Ask again when routes, rules or links change.
func RoutesInside(h *netlink.Handle, tun int, src netip.Addr, pref64 netip.Prefix, networks []netip.Prefix) (rs []Route, left int, err error) {
	prefixes, err := dump.Whole(5, 0, func() ([]netip.Prefix, error) { return partsWithRoutes(h, append([]netip.Prefix{pref64}, networks...)) })
	if err != nil {
		return nil, 0, &Error{"list the routes inside PREF64", err}
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(b.Bits(), a.Bits()), a.Addr().Compare(b.Addr()))
	})
	prefixes = slices.Compact(prefixes)
	if len(prefixes) > MaxRoutes {
		left = len(prefixes) - MaxRoutes
		prefixes = prefixes[:MaxRoutes]
	}
	links := map[int]netlink.Link{}
	for i, p := range prefixes {
		example, ok := addressOf(p, prefixes[:i])
		if !ok {
			continue // more specific routes cover all of it
		}
		r, advertised, err := chosenRoute(h, tun, src, example, links)
		if err != nil {
			return nil, 0, &Error{"ask for the route to " + example.String(), err}
		}
		// The prefix of a network may be one of the link (explicit address mappings).
		if advertised && !slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Overlaps(p) }) {
			continue
		}
		r.Prefix = p
		rs = append(rs, r)
	}
	return rs, left, nil
}

// defaultPart is the length of the longest prefix that counts as a part of a default
// route: 2000::/3 is all of the global unicast space.
const defaultPart = 3

// partsWithRoutes lists the destinations inside wholes to which there are routes or
// rules, and those of wholes themselves that a route or a rule leads to.
func partsWithRoutes(h *netlink.Handle, wholes []netip.Prefix) (parts []netip.Prefix, err error) {
	add := func(dst *net.IPNet) {
		if dst == nil {
			return
		}
		ones, bits := dst.Mask.Size()
		a, ok := netip.AddrFromSlice(dst.IP)
		if !ok || bits != 128 {
			return
		}
		to := netip.PrefixFrom(a, ones).Masked()
		for _, w := range wholes {
			switch {
			case !to.Overlaps(w):
			case ones >= w.Bits():
				parts = append(parts, to)
			case ones > defaultPart:
				parts = append(parts, w.Masked())
			}
		}
	}
	rules, err := h.RuleList(netlink.FAMILY_V6)
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		add(r.Dst)
	}
	// Linux 4.20 and later; without it the kernel also gives its caches.
	_ = h.SetStrictCheck(true)
	defer func() { _ = h.SetStrictCheck(false) }()
	filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	err = h.RouteListFilteredIter(netlink.FAMILY_V6, filter, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		if r.Table != unix.RT_TABLE_LOCAL {
			add(r.Dst)
		}
		return true
	})
	return parts, err
}

// severalHops reports whether r has several next hops on one link, one of which
// bpf_redirect_neigh can choose. If there are others on another link it would choose
// among all of them and look for the other link's router on this one. Of a route by a
// nexthop object the kernel may tell none (sysctl nexthop_compat_mode 0).
func severalHops(r netlink.Route) bool {
	return len(r.MultiPath) > 1 && !slices.ContainsFunc(r.MultiPath, func(hop *netlink.NexthopInfo) bool {
		return hop.LinkIndex != r.MultiPath[0].LinkIndex
	})
}

// maxSteps is how many more specific routes addressOf steps over.
const maxSteps = 256

// addressOf returns an address of p that is in none of the others, which are at
// least as specific. It reports false if they cover p, or nearly so.
func addressOf(p netip.Prefix, others []netip.Prefix) (netip.Addr, bool) {
	a := p.Addr()
	for range maxSteps {
		if !p.Contains(a) {
			break
		}
		i := slices.IndexFunc(others, func(o netip.Prefix) bool { return o.Contains(a) })
		if i < 0 {
			return a, true
		}
		if a = lastOf(others[i]).Next(); !a.IsValid() {
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
	whole, err := fibMatch(h, 0, src, dst)
	switch {
	case cause.Of(err) == cause.Resource:
		return Route{}, false, err
	case err != nil || whole == nil: // changed in between, which is an event of its own
		whole = got
	}
	if severalHops(*whole) && r.linkHeader {
		r.Action = RouteKernelHop
	}
	if r.MTU = l.Attrs().MTU; whole.MTU > 0 {
		r.MTU = min(r.MTU, whole.MTU)
	}
	return r, advertisedOnLink(*got), nil
}

// value is r as the programs want it.
func (r Route) value() bpfRoute {
	v := bpfRoute{Ifindex: uint32(r.Link), Mtu: math.MaxUint32}
	if r.MTU > 0 {
		v.Mtu = uint32(max(r.MTU, minMTU6))
	}
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
