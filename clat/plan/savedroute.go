package plan

import "net/netip"

// ForeignRoute is an IPv4 route of another program through a TUN of ours, such
// as that of a VPN to its endpoint. It goes with the TUN.
type ForeignRoute struct {
	Destination netip.Prefix
	Source      netip.Addr // preferred, may be invalid
	Gateway     netip.Addr // may be invalid
	Metric      int
	MTU         int // 0: none given
	Table       int
	Protocol    int
	Scope       int
	TOS         int
	Flags       int // RTNH_F_ONLINK
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
