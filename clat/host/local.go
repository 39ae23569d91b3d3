package host

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// localRoute is the route that the kernel adds to the local table for an IPv4
// address of a link. It does not add it again when somebody else removes it
// (`ip route flush table all`), although the address stays.
func localRoute(link int, a netip.Addr) *netlink.Route {
	return &netlink.Route{
		LinkIndex: link, Dst: ipNet(a), Src: a.AsSlice(), Scope: netlink.SCOPE_HOST,
		Table: unix.RT_TABLE_LOCAL, Protocol: unix.RTPROT_KERNEL, Type: unix.RTN_LOCAL,
	}
}

// addLocalRoute adds the local route of an address unless it is there.
func (k *routes) addLocalRoute(link int, a netip.Addr) error {
	err := k.handle.RouteAdd(localRoute(link, a))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// findNotLocal sets NotLocal of the IPv4 addresses of our interfaces.
func (k *routes) findNotLocal(o *plan.Observed) error {
	ours := make(map[int]bool)
	for _, l := range o.Links {
		if strings.HasPrefix(l.Alias, plan.AliasPrefix) {
			ours[l.Index] = true
		}
	}
	if len(ours) == 0 {
		return nil
	}
	filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL}
	routes, err := k.listRoutes(unix.AF_INET, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	if err != nil {
		return err
	}
	type entry struct {
		link int
		addr netip.Addr
	}
	local := make(map[entry]bool)
	for _, r := range routes {
		if ones, _ := r.Dst.Mask.Size(); ones == 32 {
			local[entry{r.LinkIndex, addrOf(r.Dst.IP)}] = true
		}
	}
	for i, a := range o.Addrs {
		if addr := a.Prefix.Addr(); addr.Is4() && ours[a.Link] {
			o.Addrs[i].NotLocal = !local[entry{a.Link, addr}]
		}
	}
	return nil
}
