package host

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// maxOnLink bounds the networks that onLink4 holds, the largest of all. A host with a
// route for each of its containers has up to some hundred.
const maxOnLink = 256

// maxRouted bounds the routes of which routed4 holds the next hops, the first of all.
const maxRouted = 256

// ways are what is looked for among all routes of the host.
type ways struct {
	defaults []plan.Route  // of both families
	onLink4  []plan.OnLink // of IPv4, at most maxOnLink
	routed4  []plan.OnLink // private networks of IPv4 behind routers, at most maxRouted routes
}

func (w ways) clone() ways {
	return ways{slices.Clone(w.defaults), slices.Clone(w.onLink4), slices.Clone(w.routed4)}
}

// ways looks at the routes of both families, or recalls them where that is allowed.
func (k *routes) ways() (ways, error) {
	if w, ok := k.memory.recall(); ok {
		return w, nil
	}
	var (
		out ways
		all int
	)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		n := 0
		w, err := whole(func() (w ways, err error) {
			w, n, err = k.waysOf(family)
			return w, err
		})
		if err != nil {
			return ways{}, err
		}
		out.defaults = append(out.defaults, w.defaults...)
		out.onLink4 = append(out.onLink4, w.onLink4...)
		out.routed4 = append(out.routed4, w.routed4...)
		all += n
	}
	k.memory.remember(out, all)
	return out, nil
}

// waysOf lists the default routes of one family in every table, those of IPv4
// also in parts, and the IPv4 networks that are reached without a router or, if they
// are private, by one. Routes that lead nowhere (unreachable, or a dead next hop) are
// left out. The kernel knows no way to ask for them: it gives all routes, and all is
// how many.
func (k *routes) waysOf(family int) (out ways, all int, err error) {
	var found []netlink.Route // in the order of the dump
	routed := 0
	err = k.eachRoute(family, &netlink.Route{Type: unix.RTN_UNICAST}, netlink.RT_FILTER_TYPE, func(r netlink.Route) bool {
		all++
		_, isDefault := defaultOrPart(r)
		switch {
		case r.Table == unix.RT_TABLE_LOCAL:
		case isDefault:
			found = append(found, r)
		case family != unix.AF_INET || r.Protocol == plan.Protocol:
		case r.LinkIndex != 0 && len(r.Gw) == 0 && r.Via == nil:
			out.onLink4 = addLargest(out.onLink4, plan.OnLink{Link: r.LinkIndex, Prefix: destination(r)})
		case r.Table == plan.TableMain && routed < maxRouted && plan.IsPrivate4(destination(r)):
			found = append(found, r)
			routed++
		}
		return true
	})
	if err == nil {
		err = k.nexthops().Complete(family, found)
	}
	for _, r := range found {
		if _, isDefault := defaultOrPart(r); isDefault {
			out.defaults = append(out.defaults, planRoutes(r)...)
			continue
		}
		for _, hop := range planRoutes(r) {
			out.routed4 = append(out.routed4, plan.OnLink{Link: hop.Link, Prefix: destination(r)})
		}
	}
	return out, all, err
}

// addLargest adds a network, which takes the place of the smallest if there are
// maxOnLink already.
func addLargest(ns []plan.OnLink, n plan.OnLink) []plan.OnLink {
	if len(ns) < maxOnLink {
		return append(ns, n)
	}
	least := 0
	for i := range ns {
		if ns[i].Prefix.Bits() > ns[least].Prefix.Bits() {
			least = i
		}
	}
	if n.Prefix.Bits() < ns[least].Prefix.Bits() {
		ns[least] = n
	}
	return ns
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
	part = destination(r)
	if part.Bits() == 0 {
		return netip.Prefix{}, true
	}
	return part, r.Family == unix.AF_INET && plan.IsPart(part)
}

// destination returns the network that r leads to.
func destination(r netlink.Route) netip.Prefix {
	ones, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(addrOf(r.Dst.IP), ones)
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
