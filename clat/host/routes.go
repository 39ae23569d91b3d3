package host

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// defaults lists the default routes of both families, from memory where that is
// allowed.
func (k *routes) defaults() ([]plan.Route, error) {
	if rs, ok := k.memory.recall(); ok {
		return rs, nil
	}
	var (
		out []plan.Route
		all int
	)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		n := 0
		rs, err := whole(func() (rs []plan.Route, err error) {
			rs, n, err = k.defaultRoutes(family)
			return rs, err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, rs...)
		all += n
	}
	k.memory.remember(out, all)
	return out, nil
}

// defaultRoutes lists the default routes of one family in every table, those of IPv4
// also in parts. Those that lead nowhere (unreachable, or a dead next hop) are left
// out. The kernel knows no way to ask for them: it gives all routes, and all is how
// many.
func (k *routes) defaultRoutes(family int) (out []plan.Route, all int, err error) {
	var found []netlink.Route
	err = k.eachRoute(family, &netlink.Route{Type: unix.RTN_UNICAST}, netlink.RT_FILTER_TYPE, func(r netlink.Route) bool {
		all++
		if _, ok := defaultOrPart(r); ok && r.Table != unix.RT_TABLE_LOCAL {
			found = append(found, r)
		}
		return true
	})
	if err == nil {
		err = k.nexthops().Complete(family, found)
	}
	for _, r := range found {
		out = append(out, planRoutes(r)...)
	}
	return out, all, err
}

// planRoutes are the next hops of r as package plan knows them. Those that the
// kernel does not use are left out.
func planRoutes(r netlink.Route) (out []plan.Route) {
	part, _ := defaultOrPart(r)
	base := plan.Route{
		IPv6: r.Family == unix.AF_INET6, Part: part, Source: addrOf(r.Src), Metric: r.Priority, MTU: r.MTU,
		Table: r.Table, Protocol: int(r.Protocol),
	}
	hops := r.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via, Flags: r.Flags}}
	}
	for _, h := range hops {
		down := h.Flags&unix.RTNH_F_LINKDOWN != 0
		if h.LinkIndex == 0 || h.Flags&unix.RTNH_F_DEAD != 0 || down && base.IPv6 {
			continue
		}
		hop := base
		hop.Link, hop.Gateway, hop.LinkDown = h.LinkIndex, gatewayOf(h.Gw, h.Via), down
		out = append(out, hop)
	}
	return out
}

// defaultOrPart reports whether r is a default route or, in IPv4, a part of one,
// which it returns.
func defaultOrPart(r netlink.Route) (part netip.Prefix, ok bool) {
	ones, _ := r.Dst.Mask.Size()
	if ones == 0 {
		return netip.Prefix{}, true
	}
	part = netip.PrefixFrom(addrOf(r.Dst.IP), ones)
	return part, r.Family == unix.AF_INET && plan.IsPart(part)
}

// eachRoute calls f with every route that matches, of every table if the filter
// names none. The kernel itself leaves out those of other tables, protocols and
// types, where f would be slow.
func (k *routes) eachRoute(family int, filter *netlink.Route, mask uint64, f func(netlink.Route) bool) error {
	// Linux 4.20 and later; netlink leaves out the rest in any case.
	_ = k.handle.SetStrictCheck(true)
	defer func() { _ = k.handle.SetStrictCheck(false) }()
	err := k.handle.RouteListFilteredIter(family, filter, mask|netlink.RT_FILTER_TABLE, f)
	if errors.Is(err, unix.ENOENT) {
		return nil // no such table
	}
	return err
}

// listRoutes is eachRoute for few.
func (k *routes) listRoutes(family int, filter *netlink.Route, mask uint64) ([]netlink.Route, error) {
	return whole(func() (rs []netlink.Route, err error) {
		err = k.eachRoute(family, filter, mask, func(r netlink.Route) bool {
			rs = append(rs, r)
			return true
		})
		return rs, err
	})
}
