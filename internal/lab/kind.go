package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Kind is a kind of access network: what link the laptop has with its router, and
// how it gets its IPv6 address. The zero Kind is Ethernet with SLAAC.
type Kind uint8

const (
	SLAAC      Kind = iota
	DHCPv6Only      // one address: a /128 leased by a real server (dnsmasq) to a real client (dhcpcd); RAs with M=1, prefix with A=0
	Cloud           // one address: a /128 and a default route through fe80::1, both by hand; no RAs
	Static          // an address in the link's /64 and a default route through a global address, both by hand; no RAs
	Bridge          // the uplink is a bridge, whose port is the Ethernet link; SLAAC
	Bond            // the uplink is a bond of two Ethernet links, one of them active; SLAAC
	VLAN            // the uplink is a VLAN of the Ethernet link; SLAAC
	PPP             // the uplink is a PPP link between two real pppd, with IPv6CP and without IPv4; SLAAC
	NoARP           // the uplink is an Ethernet link without neighbours (NOARP), as that of an MBIM modem; SLAAC
	RawIP           // the uplink has neither link header nor neighbours, as that of most modems, which give a /64: a TUN at either end; SLAAC
	WireGuard       // the uplink is a WireGuard tunnel over another link; addresses and default route by hand; no RAs
	GRE             // the uplink is a GRE tunnel in IPv6 over another link; addresses and default route by hand; no RAs
	Delegated       // as DHCPv6Only, and a /56 is delegated, of which the client (dhcpcd) puts a /64 on another interface, [DelegatedLink]; the server is kea
	numKinds
)

var kinds = [numKinds]struct {
	name     string
	programs []string // that the kind runs
}{
	SLAAC:      {name: "slaac"},
	DHCPv6Only: {name: "dhcpv6-only", programs: []string{"dnsmasq", "dhcpcd", "unshare"}},
	Cloud:      {name: "cloud"},
	Static:     {name: "static"},
	Bridge:     {name: "bridge"},
	Bond:       {name: "bond"},
	VLAN:       {name: "vlan"},
	PPP:        {name: "ppp", programs: []string{"pppd"}},
	NoARP:      {name: "noarp"},
	RawIP:      {name: "raw-ip"},
	WireGuard:  {name: "wireguard", programs: []string{"wg"}},
	GRE:        {name: "gre"},
	Delegated:  {name: "delegated", programs: []string{"kea-dhcp6", "dhcpcd", "unshare"}},
}

// String returns the kind's name, for example "dhcpv6-only".
func (k Kind) String() string { return kinds[k].name }

// KindNames lists the names of all kinds.
func KindNames() []string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// ParseKind returns the kind of the given name.
func ParseKind(name string) (Kind, error) {
	i := slices.Index(KindNames(), name)
	if i < 0 {
		return 0, fmt.Errorf("there is no network %q, but %s", name, strings.Join(KindNames(), ", "))
	}
	return Kind(i), nil
}

// Programs lists the programs that a lab of the kind runs.
func (k Kind) Programs() []string { return slices.Clone(kinds[k].programs) }

// byHand reports whether the laptop is configured by hand, and the router sends no
// advertisements. PREF64 is known to DNS alone.
func (k Kind) byHand() bool { return k == Cloud || k == Static || k == WireGuard || k == GRE }

// isTunnel reports whether the uplink is of an rtnetlink kind that tunnels have.
func (k Kind) isTunnel() bool { return k == RawIP || k == WireGuard || k == GRE }

// Config returns what the section [clat] of tnat64d's configuration must have on the
// laptop: nothing, but for tunnels, which must be named.
func (k Kind) Config() string {
	if !k.isTunnel() {
		return ""
	}
	return fmt.Sprintf("uplinks = [%q]\n", Uplink)
}

// hasHardwareAddr reports whether the interfaces of the link have Ethernet addresses
// of their own.
func (k Kind) hasHardwareAddr() bool { return k != PPP && k != NoARP && !k.isTunnel() }

// singleAddress reports whether the laptop has one address, a /128.
func (k Kind) singleAddress() bool { return k == DHCPv6Only || k == Delegated || k == Cloud }

// leases reports whether the laptop's address is leased by a real DHCPv6 server.
func (k Kind) leases() bool { return k == DHCPv6Only || k == Delegated }

// staticLaptop is the address on a link that an administrator gives to the laptop.
func staticLaptop(link netip.Prefix) netip.Addr {
	b := link.Addr().As16()
	b[15] = 5
	return netip.AddrFrom16(b)
}

// gateway returns the address of the router in the laptop's default route.
func (n *Network) gateway() netip.Addr {
	if n.options.Kind.byHand() && n.options.Kind != Cloud {
		return n.IPv6
	}
	return n.Local
}

// configureByHand gives the laptop an address, a default route and a resolver, as
// cloud-init or an administrator does.
func (a *attachment) configureByHand() error {
	n := a.network
	laptop, uplink := n.lab.Laptop, a.Attached()
	own := netip.PrefixFrom(staticLaptop(n.Link), 64)
	if n.options.Kind.singleAddress() {
		own = netip.PrefixFrom(dhcpv6(n.Link), 128)
	}
	return steps(
		func() error { return laptop.address(uplink, own.Addr(), own.Bits()) },
		func() error {
			return laptop.change(uplink, "default route by hand on", func(link netlink.Link) error {
				return laptop.Netlink.RouteReplace(&netlink.Route{
					Dst: ipNet(anyIPv6), LinkIndex: link.Attrs().Index, Gw: n.gateway().AsSlice(), Protocol: unix.RTPROT_STATIC,
				})
			})
		},
		func() error { return n.lab.SetResolvConf(laptop, "nameserver "+n.IPv6.String()+"\n") },
	)
}

// RouteToLaptop has the network's router route a prefix to the laptop's link-local
// address, as a provider does that delegates or assigns one.
func (n *Network) RouteToLaptop(p netip.Prefix) error {
	addrs, err := n.lab.Laptop.Addresses(n.Attached())
	if err != nil {
		return fmt.Errorf("lab: route to the laptop: %w", err)
	}
	i := slices.IndexFunc(addrs, func(a netip.Prefix) bool { return a.Addr().Is6() && a.Addr().IsLinkLocalUnicast() })
	if i < 0 {
		return fmt.Errorf("lab: the laptop has no link-local address on %s", n.Name)
	}
	n.mu.Lock()
	n.beyond = append(n.beyond, p)
	n.mu.Unlock()
	return n.Router.route(p, lan, addrs[i].Addr())
}
