package plan

import (
	"net/netip"
	"slices"
)

// MaxHops is how many next hops of a multipath route are recorded.
const MaxHops = 8

// ForeignRoute is a unicast route of another program through a TUN of ours, such
// as that of a VPN to its endpoint. It goes with the TUN.
type ForeignRoute struct {
	Destination netip.Prefix
	Source      netip.Addr // preferred, may be invalid
	Gateway     netip.Addr // may be invalid; of either family
	Metric      int
	MTU         int // 0: none given
	Table       int
	Protocol    int
	Scope       int
	TOS         int
	Flags       int // RTNH_F_ONLINK
	Realm       int // RTA_FLOW; 0: none
	Metrics     RouteMetrics
	Object      NexthopObject
	// Multipath has the next hops of a multipath route, which has no Gateway of
	// its own; the first zero Hop ends the list.
	Multipath [MaxHops]Hop
}

// Hop is a next hop of a multipath route.
type Hop struct {
	TUN     bool       // it is on the TUN
	Link    string     // name of its interface
	Gateway netip.Addr // may be invalid; of either family
	Weight  int        // from 1
	Flags   int        // RTNH_F_ONLINK
	Object  NexthopObject
}

// NexthopObject is a nexthop object, or a group of such, by which a route leads, or a
// member of such a group.
type NexthopObject struct {
	ID       uint32 // 0: there is none
	IPv6     bool   // its family; not of a group
	Protocol int    // who made it
}

// Hops returns the next hops of a multipath route; none if it is not one.
func (f *ForeignRoute) Hops() []Hop {
	n := slices.IndexFunc(f.Multipath[:], func(h Hop) bool { return h.Weight == 0 })
	if n < 0 {
		n = len(f.Multipath)
	}
	return f.Multipath[:n]
}

// SavedRoute is a foreign route with the network that the CLAT was on: it makes
// no sense on another.
type SavedRoute struct {
	TUN     string
	Network Network
	Route   ForeignRoute
}

// Network tells networks apart. The CLAT IPv6 address depends on the interface,
// its prefix and PREF64.
type Network struct {
	Uplink string
	IPv6   netip.Addr
	PREF64 netip.Prefix
}

// Network identifies the network that c belongs to.
func (c CLAT) Network() Network { return Network{c.Uplink.Name, c.IPv6, c.PREF64.Prefix} }
