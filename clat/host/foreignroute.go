package host

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// ForeignRoutes lists the IPv4 unicast routes of other programs through a TUN of
// ours. Routes with several next hops, with a nexthop object or an encapsulation
// are left out. Where the host has so many routes that a dump is slow they are
// not known, unless thorough is set.
func (k *routes) ForeignRoutes(link int, thorough bool) (fs []plan.ForeignRoute, known bool) {
	if k.memory.socket != nil && !thorough {
		return nil, false
	}
	filter := &netlink.Route{LinkIndex: link, Type: unix.RTN_UNICAST}
	routes, err := k.listRoutes(unix.AF_INET, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TYPE)
	if err != nil {
		return nil, false
	}
	for _, r := range routes {
		if r.Protocol == plan.Protocol || r.Protocol == unix.RTPROT_KERNEL || r.LinkIndex != link || len(r.MultiPath) > 0 || r.Via != nil || r.Encap != nil || r.Dst == nil {
			continue
		}
		ones, _ := r.Dst.Mask.Size()
		fs = append(fs, plan.ForeignRoute{
			Destination: netip.PrefixFrom(addrOf(r.Dst.IP), ones), Source: addrOf(r.Src), Gateway: addrOf(r.Gw),
			Metric: r.Priority, MTU: r.MTU, Table: r.Table, Protocol: int(r.Protocol), Scope: int(r.Scope), TOS: r.Tos,
			Flags: r.Flags & unix.RTNH_F_ONLINK,
		})
	}
	// A link that has just gone has no routes, and had some.
	if _, err := k.handle.LinkByIndex(link); err != nil {
		return nil, false
	}
	return fs, true
}

// AddForeignRoute adds f, unless there is a route to the same destination with
// the same metric in its table.
func (k *routes) AddForeignRoute(link int, f plan.ForeignRoute) error {
	err := k.handle.RouteAdd(&netlink.Route{
		LinkIndex: link, Dst: &net.IPNet{IP: f.Destination.Addr().AsSlice(), Mask: net.CIDRMask(f.Destination.Bits(), 32)},
		Src: f.Source.AsSlice(), Gw: f.Gateway.AsSlice(), Priority: f.Metric, MTU: f.MTU, Table: f.Table,
		Protocol: netlink.RouteProtocol(f.Protocol), Scope: netlink.Scope(f.Scope), Tos: f.TOS, Flags: f.Flags, Type: unix.RTN_UNICAST,
	})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
