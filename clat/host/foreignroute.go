package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
	"tnat64d/internal/nexthop"
)

// ForeignRoutes lists the unicast routes of other programs through a TUN of ours,
// of both families. Left out are those with an attribute that cannot be restored
// ([nexthop.Extra]), such as an encapsulation, or with more than [plan.MaxHops] next
// hops. Of a route by a nexthop object, which goes with the TUN too,
// the next hops are returned as well as the object, unless that cannot be restored
// (a resilient group). Where the host has so many routes that a
// dump is slow they are not known, unless thorough is set.
func (k *routes) ForeignRoutes(link int, thorough bool) (fs []plan.ForeignRoute, known bool) {
	if k.memory.socket != nil && !thorough {
		return nil, false
	}
	objects, err := k.nexthops().Objects()
	if err != nil {
		return nil, false
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		// Not filtered by link: netlink would leave out multipath routes.
		routes, err := k.listRoutes(family, &netlink.Route{Type: unix.RTN_UNICAST}, netlink.RT_FILTER_TYPE)
		if err == nil {
			err = k.nexthops().Complete(family, routes)
		}
		if err != nil {
			return nil, false
		}
		var extras []nexthop.Extra // asked for only if there is a foreign route
		for i, r := range routes {
			f, ok := k.foreignRoute(r, link)
			if !ok {
				continue
			}
			if extras == nil {
				if extras, err = k.nexthops().Extras(family, routes); err != nil {
					return nil, false
				}
			}
			if extras[i].Special {
				continue
			}
			nameObjects(&f, extras[i].Object, objects)
			fs = append(fs, f)
		}
	}
	// A link that has just gone has no routes, and had some.
	if _, err := k.handle.LinkByIndex(link); err != nil {
		return nil, false
	}
	return fs, true
}

// nameObjects records in f the nexthop object id and, of a group, its members.
// Nothing is recorded of objects that cannot be restored.
func nameObjects(f *plan.ForeignRoute, id uint32, objects map[uint32]nexthop.Object) {
	o, ok := objects[id]
	hops := f.Hops()
	if !ok || !o.Restorable() || len(hops) != len(o.Members) {
		return
	}
	for i, m := range o.Members {
		n, ok := objects[m.ID]
		if !ok || !n.Restorable() || n.Gateway != hops[i].Gateway || m.Weight != hops[i].Weight {
			return
		}
	}
	f.Object = plan.NexthopObject{ID: id, IPv6: o.IPv6, Protocol: o.Protocol}
	for i, m := range o.Members {
		n := objects[m.ID]
		f.Multipath[i].Object = plan.NexthopObject{ID: m.ID, IPv6: n.IPv6, Protocol: n.Protocol}
	}
}

// foreignRoute returns what is recorded of r, unless it is not through link, not
// another program's, or not of a kind that is restored.
func (k *routes) foreignRoute(r netlink.Route, link int) (f plan.ForeignRoute, ok bool) {
	switch int(r.Protocol) {
	case plan.Protocol, unix.RTPROT_KERNEL, unix.RTPROT_REDIRECT, unix.RTPROT_RA:
		return f, false
	}
	if r.Dst == nil || r.Encap != nil || r.Table == unix.RT_TABLE_LOCAL {
		return f, false
	}
	ones, _ := r.Dst.Mask.Size()
	f = plan.ForeignRoute{
		Destination: netip.PrefixFrom(addrOf(r.Dst.IP), ones), Source: addrOf(r.Src), Gateway: gatewayOf(r.Gw, r.Via),
		Metric: r.Priority, MTU: r.MTU, Table: r.Table, Protocol: int(r.Protocol), Scope: int(r.Scope), TOS: r.Tos,
		Flags: r.Flags & unix.RTNH_F_ONLINK, Realm: r.Realm, Metrics: metricsOf(r),
	}
	if len(r.MultiPath) == 0 {
		return f, r.LinkIndex == link
	}
	if len(r.MultiPath) > plan.MaxHops {
		return f, false
	}
	for i, h := range r.MultiPath {
		l, err := k.handle.LinkByIndex(h.LinkIndex)
		if err != nil || h.Encap != nil {
			return f, false
		}
		f.Multipath[i] = plan.Hop{
			TUN: h.LinkIndex == link, Link: l.Attrs().Name, Gateway: gatewayOf(h.Gw, h.Via), Weight: h.Hops + 1, Flags: h.Flags & unix.RTNH_F_ONLINK,
		}
		ok = ok || h.LinkIndex == link
	}
	return f, ok
}

// AddForeignRoute adds f, unless there is a route to the same destination with
// the same metric in its table. The nexthop object that it names is restored, with
// its number; if that is another one's by now, the route gets the next hops instead. Of an IPv6 multipath route the kernel removes only
// the next hops on the TUN; they are added to what is left of it.
func (k *routes) AddForeignRoute(link int, f plan.ForeignRoute) error {
	r := routeOf(f)
	family := unix.AF_INET
	if f.Destination.Addr().Is6() {
		family = unix.AF_INET6
	}
	hops := f.Hops()
	if f.Object.ID != 0 {
		if err := k.restoreObjects(link, f); err == nil {
			return unlessExists(k.nexthops().AddRoute(family, r, f.Object.ID))
		} else if !errors.Is(err, nexthop.ErrOther) {
			return err
		}
	}
	if len(hops) == 0 {
		r.LinkIndex, r.Flags = link, f.Flags
		r.Gw, r.Via = nexthop.Gateway(family, f.Gateway)
		return unlessExists(k.handle.RouteAdd(r))
	}
	var rest []*netlink.NexthopInfo
	for _, h := range hops {
		n := &netlink.NexthopInfo{LinkIndex: link, Hops: h.Weight - 1, Flags: h.Flags}
		n.Gw, n.Via = nexthop.Gateway(family, h.Gateway)
		if !h.TUN {
			l, err := k.handle.LinkByName(h.Link)
			if err != nil {
				return fmt.Errorf("next hop on %s: %w", h.Link, err)
			}
			n.LinkIndex = l.Attrs().Index
			rest = append(rest, n)
		}
		r.MultiPath = append(r.MultiPath, n)
	}
	err := k.handle.RouteAdd(r)
	if errors.Is(err, unix.EEXIST) && f.Destination.Addr().Is6() && len(rest) > 0 && k.consistsOf(r, rest) {
		r.MultiPath = slices.DeleteFunc(r.MultiPath, func(n *netlink.NexthopInfo) bool { return slices.Contains(rest, n) })
		err = k.handle.RouteAppend(r)
	}
	return unlessExists(err)
}

// routeOf returns the route f without its next hops.
func routeOf(f plan.ForeignRoute) *netlink.Route {
	r := &netlink.Route{
		Dst: &net.IPNet{IP: f.Destination.Addr().AsSlice(), Mask: net.CIDRMask(f.Destination.Bits(), f.Destination.Addr().BitLen())},
		Src: f.Source.AsSlice(), Priority: f.Metric, MTU: f.MTU, Table: f.Table,
		Protocol: netlink.RouteProtocol(f.Protocol), Scope: netlink.Scope(f.Scope), Tos: f.TOS, Type: unix.RTN_UNICAST,
		Realm: f.Realm, MTULock: f.Metrics.MTULock, RtoMinLock: f.Metrics.RTOLock, Congctl: f.Metrics.CongestionControl,
	}
	for number, value := range nexthop.Metrics(r) {
		if value != nil && number != unix.RTAX_MTU {
			*value = int(f.Metrics.Numbers[number])
		}
	}
	return r
}

// metricsOf returns the metrics of r without its MTU.
func metricsOf(r netlink.Route) plan.RouteMetrics {
	m := plan.RouteMetrics{MTULock: r.MTULock, RTOLock: r.RtoMinLock, CongestionControl: r.Congctl}
	for number, value := range nexthop.Metrics(&r) {
		if value != nil && number != unix.RTAX_MTU {
			m.Numbers[number] = uint32(*value)
		}
	}
	return m
}

// restoreObjects restores the nexthop object of f, and of a group the members that
// were on the TUN. The others must be there.
func (k *routes) restoreObjects(link int, f plan.ForeignRoute) error {
	objects := k.nexthops()
	hops := f.Hops()
	if len(hops) == 0 {
		return objects.Restore(f.Object.ID, nexthop.Object{IPv6: f.Object.IPv6, Link: link, Gateway: f.Gateway, Flags: f.Flags, Protocol: f.Object.Protocol})
	}
	group, onTUN := nexthop.Object{Protocol: f.Object.Protocol}, map[uint32]bool{}
	there, err := objects.Objects()
	if err != nil {
		return err
	}
	for _, h := range hops {
		group.Members = append(group.Members, nexthop.Member{ID: h.Object.ID, Weight: h.Weight})
		if _, ok := there[h.Object.ID]; !h.TUN && !ok {
			return nexthop.ErrOther
		}
		if !h.TUN {
			continue
		}
		onTUN[h.Object.ID] = true
		o := nexthop.Object{IPv6: h.Object.IPv6, Link: link, Gateway: h.Gateway, Flags: h.Flags, Protocol: h.Object.Protocol}
		if err := objects.Restore(h.Object.ID, o); err != nil {
			return err
		}
	}
	return objects.RestoreGroup(f.Object.ID, group, func(member uint32) bool { return onTUN[member] })
}

// consistsOf reports whether the route to the destination of r, with its metric
// and in its table, has exactly the next hops of rest.
func (k *routes) consistsOf(r *netlink.Route, rest []*netlink.NexthopInfo) bool {
	all, err := k.listRoutes(unix.AF_INET6, &netlink.Route{Type: unix.RTN_UNICAST}, netlink.RT_FILTER_TYPE)
	there := slices.DeleteFunc(all, func(o netlink.Route) bool {
		return o.Table != r.Table || o.Priority != r.Priority || o.Dst.String() != r.Dst.String()
	})
	if err != nil || len(there) != 1 {
		return false
	}
	hops := there[0].MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: there[0].LinkIndex, Gw: there[0].Gw}}
	}
	return slices.EqualFunc(hops, rest, func(a, b *netlink.NexthopInfo) bool { return a.LinkIndex == b.LinkIndex && a.Gw.Equal(b.Gw) })
}

// gatewayOf returns the gateway of a next hop, or an invalid address.
func gatewayOf(gw net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok {
		return addrOf(v.Addr)
	}
	return addrOf(gw)
}

func unlessExists(err error) error {
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
