package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/config"
	"tnat64d/internal/dump"
	"tnat64d/internal/regularfile"
	"tnat64d/plat"
)

// hostView is what the configuration must agree with on the host.
type hostView struct {
	links     []string
	addresses []hostPrefix
	routes    []hostPrefix // IPv4 and of the main table, without default routes
	routes6   []hostPrefix // IPv6 and of the main table, with the metric of the gateway's own
}

// hostPrefix is an address with its prefix length, or a destination, of a link.
type hostPrefix struct {
	netip.Prefix
	link string
}

// observeHost reads links, addresses and routes, which may change while it reads, but
// not those of the gateway's own TUN, whatever its name. It takes no privilege.
func observeHost() (hostView, error) { return dump.Whole(100, 10*time.Millisecond, observeOnce) }

func observeOnce() (v hostView, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return v, fmt.Errorf("cannot list interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		if l.Attrs().Alias == plat.Alias && l.Type() == "tuntap" {
			continue // of what runs, at a reload
		}
		names[l.Attrs().Index] = l.Attrs().Name
		v.links = append(v.links, l.Attrs().Name)
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return v, fmt.Errorf("cannot list addresses: %w", err)
	}
	for _, a := range addresses {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && names[a.LinkIndex] != "" {
			bits, _ := a.Mask.Size()
			v.addresses = append(v.addresses, hostPrefix{netip.PrefixFrom(ip.Unmap(), bits), names[a.LinkIndex]})
		}
	}
	if v.routes, err = mainRoutes(netlink.FAMILY_V4, names, func(netlink.Route) bool { return true }); err != nil {
		return v, err
	}
	v.routes6, err = mainRoutes(netlink.FAMILY_V6, names, func(r netlink.Route) bool { return r.Priority == metric6 })
	return v, err
}

// metric6 is the one that the kernel gives to the gateway's route to the NAT64 prefix
// (IP6_RT_PRIO_USER).
const metric6 = 1024

// mainRoutes returns those routes of the main table that count, without default
// routes. names has the links that count.
func mainRoutes(family int, names map[int]string, counts func(netlink.Route) bool) (all []hostPrefix, err error) {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("cannot list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || names[r.LinkIndex] == "" && r.LinkIndex != 0 || !counts(r) {
			continue
		}
		ip, ok := netip.AddrFromSlice(r.Dst.IP)
		if bits, _ := r.Dst.Mask.Size(); ok && bits > 0 {
			all = append(all, hostPrefix{netip.PrefixFrom(ip.Unmap(), bits), names[r.LinkIndex]})
		}
	}
	return all, nil
}

// check refuses what the file says and the host contradicts, and warns about
// what may still come.
func (v hostView) check(f *config.GatewayFile) {
	c := f.Gateway
	for _, l := range []struct {
		key   string
		names []string
	}{{"nat64.inside", c.NAT64.Inside}, {"nat64.outside", c.NAT64.Outside}, {"advertise.interfaces", c.Advertise.Interfaces}} {
		if l.key == "nat64.inside" && !f.Has(l.key) {
			continue // they are advertise.interfaces
		}
		for i, name := range l.names {
			if !slices.Contains(v.links, name) {
				f.Refuse(l.key, i, fmt.Sprintf("there is no interface %q on this host", name), strings.Join(v.others(c.NAT64.TUN), ", "))
			}
		}
	}
	if slices.Contains(v.links, c.NAT64.TUN) {
		f.Refuse("nat64.tun", -1, fmt.Sprintf("%q is another interface of this host", c.NAT64.TUN), "a name that no interface has")
	}
	v.checkPool(f)
	// The kernel keeps one route of a prefix and metric: that which came first.
	if i := slices.IndexFunc(v.routes6, func(r hostPrefix) bool { return r.Prefix == c.NAT64.Prefix.Masked() }); i >= 0 {
		f.Refuse("nat64.prefix", -1, fmt.Sprintf("%q has a route on this host already, by %s", c.NAT64.Prefix, v.routes6[i].link), "a prefix that leads nowhere else")
	}
	for i, a := range c.DNS64.Listen {
		if !a.Addr().IsUnspecified() && !a.Addr().IsLoopback() && !v.has(a.Addr().WithZone("")) {
			f.Warn("dns64.listen", i, fmt.Sprintf("%q is not an address of this host", a.Addr()))
		}
	}
	for i, z := range c.DNS64.Zones {
		if file, err := regularfile.Open(z.Hosts); err != nil {
			f.Refuse("dns64.zone", i, fmt.Sprintf("cannot read the hosts file: %v", err), "a file that this process may read")
		} else {
			file.Close()
		}
	}
	for i, forward := range c.NAT64.Forwards {
		if !v.has(forward.Outside.Addr()) {
			f.Warn("nat64.forward", i, fmt.Sprintf("%q is not an address of this host", forward.Outside.Addr()))
		}
	}
}

// checkPool refuses a pool that the host uses otherwise: an address in it, a
// network of a link that it is part of, or a route into it. What an earlier
// process left at the TUN does not count.
func (v hostView) checkPool(f *config.GatewayFile) {
	pool, tun := f.Gateway.NAT64.Pool, f.Gateway.NAT64.TUN
	const allowed = "a prefix that nothing else on this host uses"
	for _, a := range v.addresses {
		if a.link != tun && a.Addr().Is4() && a.Overlaps(pool) {
			f.Refuse("nat64.pool", -1, fmt.Sprintf("%q overlaps the network of %v on %s", pool, a.Prefix, a.link), allowed)
			return
		}
	}
	for _, r := range v.routes {
		if r.link != tun && r.Bits() >= pool.Bits() && pool.Contains(r.Addr()) {
			f.Refuse("nat64.pool", -1, fmt.Sprintf("%q overlaps the route to %v by %s", pool, r.Prefix, r.link), allowed)
			return
		}
	}
}

func (v hostView) has(a netip.Addr) bool {
	return slices.ContainsFunc(v.addresses, func(p hostPrefix) bool { return p.Addr() == a })
}

// others returns the names of links that a configuration may use.
func (v hostView) others(tun string) []string {
	return slices.DeleteFunc(slices.Sorted(slices.Values(v.links)), func(name string) bool { return name == tun || name == "lo" })
}
