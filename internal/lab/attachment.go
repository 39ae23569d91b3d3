package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attachment is the laptop's link with a network: carrier, and what the laptop
// has on its end.
type attachment struct {
	network *Network
	native  netip.Prefix // of the link, with native IPv4

	// attaching is held while the laptop's link comes or goes.
	attaching sync.Mutex

	mu       sync.Mutex
	uplink   string // the laptop's interface that is attached, or ""
	nativeOn bool
}

// Attached returns the name of the laptop's interface that is on this network,
// or "".
func (a *attachment) Attached() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.uplink
}

// setAttached notes which interface of the laptop is on this network; "": none.
func (a *attachment) setAttached(ifname string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.uplink = ifname
}

// carrierOn gives the router's end of the laptop's link everything that a link
// loses when it goes down or changes hands, and sets it up: carrier comes on.
// The first Router Advertisement goes out at once; carrierOn returns when.
func (a *attachment) carrierOn() (firstRA time.Time, err error) {
	n := a.network
	n.mu.Lock()
	prefixes := slices.Clone(n.prefixes)
	n.mu.Unlock()
	a.mu.Lock()
	nativeOn := a.nativeOn
	a.mu.Unlock()
	err = steps(
		func() error {
			if !n.options.Kind.hasHardwareAddr() {
				return nil
			}
			return n.Router.setHardwareAddr(lan, n.mac)
		},
		n.attachFilters,
		func() error { return n.Router.up(lan) },
		func() error {
			for _, p := range prefixes {
				if err := n.Router.address(lan, p.Addr().Next(), p.Bits()); err != nil {
					return err
				}
			}
			if nativeOn {
				return n.Router.address(lan, a.native.Addr().Next(), a.native.Bits())
			}
			return nil
		},
		func() error {
			for _, r := range n.advertisers() {
				if err := r.turnOn(); err != nil {
					return err
				}
			}
			return nil
		},
	)
	return time.Now(), err
}

// carrierOff ends the advertisements and sets the link down: carrier goes off.
func (a *attachment) carrierOff() error {
	n := a.network
	for _, r := range n.advertisers() {
		r.turnOff()
	}
	return n.Router.down(lan)
}

// SetCarrier takes the carrier away from the laptop's interface on this
// network, as if the cable were pulled or the access point gone, or gives it
// back. The laptop keeps its addresses and routes, as the kernel does by
// itself; see [Lab.Forget] for what a network manager does then. It returns
// when the network was there again: just after the first Router Advertisement.
func (a *attachment) SetCarrier(on bool) (usable time.Time, err error) {
	a.attaching.Lock()
	defer a.attaching.Unlock()
	switch {
	case a.Attached() == "":
		err = errors.New("the laptop is not there")
	case on:
		usable, err = a.carrierOn()
	default:
		err = a.carrierOff()
	}
	if err != nil {
		return usable, fmt.Errorf("carrier of %s: %w", a.network.Name, err)
	}
	return usable, nil
}

// SetNativeIPv4 gives the laptop native IPv4 on this network beside its IPv6,
// or takes it away again: an address and a default route of metric 100, as a
// DHCP client would.
func (a *attachment) SetNativeIPv4(on bool) error {
	n := a.network
	uplink := a.Attached()
	link, err := n.lab.Laptop.Netlink.LinkByName(uplink)
	if err != nil {
		return fmt.Errorf("native IPv4: %w", err)
	}
	a.mu.Lock()
	a.nativeOn = on
	a.mu.Unlock()
	own := a.NativeLaptop()
	if !on {
		// The routes go with the address.
		if err := n.lab.Laptop.Netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(own, a.native.Bits()))}); err != nil {
			return fmt.Errorf("native IPv4: %w", err)
		}
		return nil
	}
	gateway := a.native.Addr().Next()
	return steps(
		func() error { return n.Router.address(lan, gateway, a.native.Bits()) },
		func() error { return n.lab.Laptop.address(uplink, own, a.native.Bits()) },
		func() error {
			return n.lab.Laptop.Netlink.RouteReplace(&netlink.Route{
				Dst: ipNet(anyIPv4), LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice(), Priority: 100,
			})
		},
	)
}

// NativeLaptop is the laptop's native IPv4 address on this network, when it has one.
func (a *attachment) NativeLaptop() netip.Addr { return a.native.Addr().Next().Next() }

// Replug makes the laptop's interface on this network anew, after somebody has
// deleted it: as when a USB adapter is pulled out and put back. It returns when
// the network was there again: see SetCarrier.
func (a *attachment) Replug() (usable time.Time, err error) {
	n := a.network
	a.attaching.Lock()
	defer a.attaching.Unlock()
	ifname := a.Attached()
	for _, r := range n.advertisers() {
		r.turnOff()
	}
	mac := hardwareAddr(0x10)
	if n.number > 1 {
		mac[4] = byte(n.number)
	}
	err = steps(
		func() error { return n.lab.plug(ifname, mac, n) },
		func() error { return n.lab.Laptop.up(ifname) },
		func() error {
			usable, err = a.carrierOn()
			return err
		},
		a.configureLaptop,
	)
	if err != nil {
		return usable, fmt.Errorf("lab: replug %s: %w", ifname, err)
	}
	return usable, nil
}

// configureLaptop does on the laptop what its kernel does not do by itself.
func (a *attachment) configureLaptop() error {
	n := a.network
	lease := leases{n}
	return steps(
		func() error {
			switch {
			case n.options.Unconfigured:
				return lease.serve()
			case n.options.Kind.leases():
				return steps(lease.serve, lease.ask)
			case n.options.Kind.byHand():
				return a.configureByHand()
			case n.options.DHCPv6:
				return lease.give()
			}
			return nil
		},
		func() error {
			if n.options.NativeIPv4 {
				return a.SetNativeIPv4(true)
			}
			return nil
		},
	)
}

// WaitOnline waits until the laptop has settled on this network: it has a
// global IPv6 address, a default route, and an address in a delegated prefix, if the
// network has these to offer, and all addresses passed duplicate address detection.
func (a *attachment) WaitOnline(ctx context.Context) error {
	n := a.network
	// The kernel ignores RAs until the link is ready for IPv6, and asks for
	// one only after a random second. So advertise now and then meanwhile.
	for try := 0; ; try++ {
		addr, err := a.LaptopAddress()
		if err != nil {
			return err
		}
		settled, err := settled(n.lab.Laptop)
		if err != nil {
			return err
		}
		routed := n.options.NoDefaultRouter
		if !routed {
			if routed, err = n.lab.Laptop.routesVia(a.Attached(), n.gateway()); err != nil {
				return err
			}
		}
		delegated, err := leases{a.network}.delegated()
		if err != nil {
			return err
		}
		if addr.IsValid() && settled && routed && delegated {
			return nil
		}
		if (!routed || !addr.IsValid()) && try%5 == 4 {
			n.sendAdvert()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("laptop did not get online on %s: %w", n.Name, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// LaptopAddress returns the laptop's own global IPv6 address on this network,
// from SLAAC or DHCPv6, or the zero Addr while there is none that may be used.
func (a *attachment) LaptopAddress() (netip.Addr, error) {
	n := a.network
	uplink := a.Attached()
	if uplink == "" {
		return netip.Addr{}, nil
	}
	addrs, err := n.lab.Laptop.addresses(uplink, netlink.FAMILY_V6)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, e := range addrs {
		ip, _ := netip.AddrFromSlice(e.IP)
		ones, _ := e.Mask.Size()
		// The other /128 on an uplink is a CLAT's.
		own := ones < 128 || ip == dhcpv6(n.Link)
		if own && n.owns(ip) && e.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED|unix.IFA_F_DEPRECATED) == 0 {
			return ip, nil
		}
	}
	return netip.Addr{}, nil
}
