package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Network is an access network that the laptop can be on: a router with a link
// of its own, Router Advertisements, a PLAT and perhaps a resolver. All lead
// to the same isp and server. A Lab is its first network; [Lab.AddNetwork]
// makes more.
//
// The Advertiser is the network's router, as the laptop hears it.
type Network struct {
	*Advertiser
	attachment
	routers
	plats
	filters
	*resolver // nil: nobody answers
	Router    *Host

	Name  string       // of Router: "router", "router2"
	Link  netip.Prefix // the /64 of the link
	IPv6  netip.Addr   // the router's, within Link
	Local netip.Addr   // the router's link-local address

	lab     *Lab
	number  int // 1 is the lab's own
	mac     net.HardwareAddr
	ipv4    netip.Prefix // of the link router - isp
	isp     netip.Addr   // the isp's address there
	ispLink string       // the isp's interface there
	options Options

	mu       sync.Mutex
	prefixes []netip.Prefix // that the router has an address in: Link first
	beyond   []netip.Prefix // of the laptop's, on links of another kind
}

// maxNetworks bounds what AddNetwork makes: each needs a part of 192.0.2.0/24.
const maxNetworks = 9

// describe fills in the addresses of the n-th network.
func (l *Lab) describe(n int, o Options) *Network {
	network := &Network{
		Name: "router", lab: l, number: n, options: o,
		Link: LaptopLink, IPv6: RouterIPv6, Local: RouterLocal, mac: hardwareAddr(0x01),
		ipv4: netip.PrefixFrom(RouterIPv4, routerISP4.Bits()), isp: ISPIPv4, ispLink: ispWest,
	}
	network.attachment = attachment{network: network, native: nativeLink}
	if n > 1 {
		network.Name = fmt.Sprint("router", n)
		network.Local = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(n)})
		network.mac = net.HardwareAddr{0x02, 0, 0, 0, byte(n), 0x01}
		network.ipv4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(4*(n-1) + 1)}), 30)
		network.isp = network.ipv4.Addr().Next()
		network.ispLink = fmt.Sprint("eth", n)
		network.native = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(n), 0}), 24)
	}
	if o.Link.IsValid() {
		network.Link = o.Link
	}
	network.IPv6 = network.Link.Addr().Next()
	network.prefixes = []netip.Prefix{network.Link}
	network.Advertiser = &Advertiser{network: network, local: network.Local, mac: network.mac}
	network.routers = routers{network: network, all: []*Advertiser{network.Advertiser}}
	network.plats = plats{network: network, dead: make(map[netip.Prefix]bool)}
	network.filters = filters{network: network, lanLimit: o.BlackHole, wanLimit: o.BlackHoleISP, ndBindings: o.NDFilter}
	return network
}

// addr16 is the IPv6 address that begins with two 32-bit words.
func addr16(a, b uint32) netip.Addr {
	return netip.AddrFrom16([16]byte{
		byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a), byte(b >> 24), byte(b >> 16), byte(b >> 8), byte(b)})
}

// AddNetwork makes another network, which the laptop is not on yet: see Roam
// and Attach. MTUServer and NoPLAT are of the whole lab and not looked at, and
// Second is not allowed. Defaults differ where networks do: PREF64 is
// 3fff:64:N::/96 and the link's prefix 2001:db8:10N::/64 for the N-th network.
func (l *Lab) AddNetwork(o Options) (network *Network, err error) {
	defer wrap(&err, "lab: another network")
	if o.Kind != SLAAC {
		return nil, fmt.Errorf("only the lab's first network can be %s", o.Kind)
	}
	if l.options.NoPLAT || o.NoPLAT || o.Second != nil {
		return nil, errors.New("only a lab with a PLAT has several networks, and Second is a matter of New")
	}
	n, err := l.newNetwork(o)
	if err != nil {
		return nil, err
	}
	if n.Router, err = newHost(l.ID, n.Name); err != nil {
		return nil, err
	}
	return n, steps(
		n.Router.infrastructure,
		n.forwarding,
		n.wireISP,
		func() error { return n.start(l.life) },
	)
}

// newNetwork gives a network its number.
func (l *Lab) newNetwork(o Options) (*Network, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number := len(l.networks) + 1
	if number > maxNetworks {
		return nil, fmt.Errorf("there are %d already", maxNetworks)
	}
	if !o.PREF64.IsValid() {
		o.PREF64 = netip.PrefixFrom(addr16(0x3fff0064, uint32(number)<<16), 96)
	}
	if !o.Link.IsValid() {
		o.Link = netip.PrefixFrom(addr16(0x20010db8, 0x01000000|uint32(number)<<16), 64)
	}
	if o.Log == nil {
		o.Log = l.options.Log
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	n := l.describe(number, o)
	l.networks = append(l.networks, n)
	return n, nil
}

// forwarding makes a router of the router.
func (n *Network) forwarding() error {
	return steps(
		func() error { return n.Router.Sysctl("net.ipv4.ip_forward", "1") },
		func() error { return n.Router.Sysctl("net.ipv6.conf.all.forwarding", "1") },
	)
}

// wireISP connects the router with the isp.
func (n *Network) wireISP() error {
	isp := n.lab.ISP
	return steps(
		func() error {
			router, far := end{n.Router, wan, hardwareAddr(0x02)}, end{isp, n.ispLink, hardwareAddr(0x03)}
			if n.number > 1 {
				router.mac[4], far.mac[4] = byte(n.number), byte(n.number)
			}
			return connect(router, far, n.options.MTUISP)
		},
		func() error { return n.Router.up(wan) },
		func() error { return isp.up(n.ispLink) },
		func() error { return n.Router.address(wan, n.ipv4.Addr(), n.ipv4.Bits()) },
		func() error { return isp.address(n.ispLink, n.isp, n.ipv4.Bits()) },
		func() error { return n.Router.route(anyIPv4, wan, n.isp) },
		func() error { return isp.route(n.native, n.ispLink, n.ipv4.Addr()) },
	)
}

// start starts what the network offers, until life ends: PLAT, resolver,
// and advertisements as soon as the laptop is attached.
func (n *Network) start(life context.Context) error {
	o := n.options
	err := steps(
		func() error { return n.startPLAT(life) },
		func() error {
			for _, p := range o.MorePREF64 {
				if err := n.AddPLAT(p); err != nil {
					return err
				}
			}
			if len(o.DeadPREF64) > 0 {
				return n.PLATDead(true, o.DeadPREF64...)
			}
			return nil
		},
		func() error { return n.startResolver(life) },
	)
	if err != nil {
		return err
	}
	if o.Kind.byHand() {
		return nil
	}
	first := Advert{
		RouterLifetime: o.RouterLifetime,
		Prefix:         n.Link, Valid: 24 * time.Hour, Preferred: 4 * time.Hour,
		MTU:   o.RAMTU,
		RDNSS: o.RDNSS,
	}
	if o.NoDefaultRouter {
		first.RouterLifetime = 0
	}
	if o.DHCPv6 || o.Kind.leases() {
		first.Managed, first.NotAutonomous = true, true
	}
	if !o.NoPREF64 {
		for _, p := range append([]netip.Prefix{o.PREF64}, o.MorePREF64...) {
			first.PREF64 = append(first.PREF64, PREF64{p, o.PREF64Lifetime})
		}
	}
	return n.SetAdvert(first)
}

// close ends what the lab's life does not end.
func (n *Network) close() {
	for _, a := range n.advertisers() {
		a.turnOff()
	}
	n.filters.mu.Lock()
	defer n.filters.mu.Unlock()
	if n.filters.bindings != nil {
		n.filters.bindings.Close()
	}
}

// addPrefix makes the router's link part of another /64, if it is not yet.
func (n *Network) addPrefix(p netip.Prefix) error {
	n.mu.Lock()
	known := slices.Contains(n.prefixes, p)
	if !known {
		n.prefixes = append(n.prefixes, p)
	}
	n.mu.Unlock()
	if known || n.Attached() == "" {
		return nil
	}
	return n.Router.address(lan, p.Addr().Next(), p.Bits())
}

// owns reports whether an address is in one of the prefixes of the laptop's links
// with this network.
func (n *Network) owns(a netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	holds := func(p netip.Prefix) bool { return p.Contains(a) }
	return slices.ContainsFunc(n.prefixes, holds) || slices.ContainsFunc(n.beyond, holds)
}
