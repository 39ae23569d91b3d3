package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// plug makes an interface of the laptop and connects it to a network. Both
// ends stay down.
func (l *Lab) plug(ifname string, mac net.HardwareAddr, n *Network) error {
	if err := connect(end{l.Laptop, ifname, mac}, end{n.Router, lan, n.mac}, n.options.MTU); err != nil {
		return err
	}
	n.mu.Lock()
	n.uplink = ifname
	n.mu.Unlock()
	return nil
}

// AddUplink gives the laptop another interface, on a network of its own (from
// AddNetwork), and returns at once: see WaitOnline. [Uplink2] is a good name.
func (l *Lab) AddUplink(ifname string, n *Network) error {
	if err := l.addUplink(ifname, n); err != nil {
		return fmt.Errorf("lab: uplink %s: %w", ifname, err)
	}
	return nil
}

func (l *Lab) addUplink(ifname string, n *Network) error {
	n.attaching.Lock()
	defer n.attaching.Unlock()
	if on := n.Attached(); on != "" {
		return fmt.Errorf("the laptop's %s is on %s already", on, n.Name)
	}
	mac := hardwareAddr(0x10)
	mac[4] = byte(n.number)
	return steps(
		func() error { return l.plug(ifname, mac, n) },
		func() error {
			_, err := n.turnOn()
			return err
		},
		func() error { return l.Laptop.up(ifname) },
		n.configureLaptop,
	)
}

// Replug makes the laptop's interface on this network anew, after somebody has
// deleted it: as when a USB adapter is pulled out and put back. It returns when
// the network was there again: see SetCarrier.
func (n *Network) Replug() (usable time.Time, err error) {
	n.attaching.Lock()
	defer n.attaching.Unlock()
	ifname := n.Attached()
	for _, a := range n.advertisers() {
		a.turnOff()
	}
	mac := hardwareAddr(0x10)
	if n.number > 1 {
		mac[4] = byte(n.number)
	}
	err = steps(
		func() error { return n.lab.plug(ifname, mac, n) },
		func() error { return n.lab.Laptop.up(ifname) },
		func() error {
			usable, err = n.turnOn()
			return err
		},
		n.configureLaptop,
	)
	if err != nil {
		return usable, fmt.Errorf("lab: replug %s: %w", ifname, err)
	}
	return usable, nil
}

// configureLaptop does on the laptop what its kernel does not do by itself.
func (n *Network) configureLaptop() error {
	return steps(
		func() error {
			if n.options.DHCPv6 {
				return n.leaseDHCPv6()
			}
			return nil
		},
		func() error {
			if n.options.NativeIPv4 {
				return n.SetNativeIPv4(true)
			}
			return nil
		},
	)
}

// Roam takes the laptop's first interface ([Uplink]) to another network, as
// when its user walks on, and returns when that network was usable: just after
// its first Router Advertisement, which follows the carrier. In between the
// laptop's network manager notices, and forgets the old network.
//
// The interface stays the same. The router, its link-local and Ethernet
// address, the /64, PREF64 and PLAT are others.
//
// The kernel tells that the carrier is gone up to a second late, and not at all
// if it is back by then: Attach just after Detach is such a roam.
func (l *Lab) Roam(ctx context.Context, to *Network) (usable time.Time, err error) {
	err = steps(
		l.Detach,
		func() error { return l.Laptop.waitNoCarrier(ctx, Uplink) },
		func() error { return l.Forget(Uplink) },
		func() error {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(association):
				return nil
			}
		},
		func() error {
			usable, err = l.Attach(to)
			return err
		},
	)
	return usable, err
}

// association is how long a laptop needs to scan for another Wi-Fi and to join
// it: hardly ever less.
const association = 100 * time.Millisecond

// Flap takes the carrier of the laptop's first interface away and gives it back
// on the same network, some time after the laptop's network manager noticed and
// forgot the network.
func (l *Lab) Flap(ctx context.Context, away time.Duration) (usable time.Time, err error) {
	n := l.on(Uplink)
	if n == nil {
		return usable, errors.New("lab: flap: the laptop is on no network")
	}
	if _, err := n.SetCarrier(false); err != nil {
		return usable, err
	}
	err = steps(
		func() error { return l.Laptop.waitNoCarrier(ctx, Uplink) },
		func() error { return l.Forget(Uplink) },
	)
	if err != nil {
		return usable, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(away):
	}
	usable, err = n.SetCarrier(true)
	return usable, errors.Join(err, n.configureLaptop(), ctx.Err())
}

// on returns the network that an interface of the laptop is on, or nil.
func (l *Lab) on(ifname string) *Network {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.networks {
		if n.Attached() == ifname {
			return n
		}
	}
	return nil
}

// Detach takes the laptop's first interface off its network: no carrier. The
// laptop keeps its configuration; see Forget.
func (l *Lab) Detach() error {
	n := l.on(Uplink)
	if n == nil {
		return nil
	}
	n.attaching.Lock()
	defer n.attaching.Unlock()
	if err := n.turnOff(); err != nil {
		return fmt.Errorf("lab: detach: %w", err)
	}
	n.mu.Lock()
	n.uplink = ""
	n.mu.Unlock()
	l.mu.Lock()
	l.air = n
	l.mu.Unlock()
	return nil
}

// Attach puts the laptop's first interface, which Detach took off its network,
// on one. It returns when the network was usable: just after its first Router
// Advertisement, which follows the carrier.
func (l *Lab) Attach(to *Network) (usable time.Time, err error) {
	if usable, err = l.attach(to); err != nil {
		return usable, fmt.Errorf("lab: attach to %s: %w", to.Name, err)
	}
	return usable, nil
}

func (l *Lab) attach(to *Network) (usable time.Time, err error) {
	to.attaching.Lock()
	defer to.attaching.Unlock()
	l.mu.Lock()
	from := l.air
	l.mu.Unlock()
	switch on := to.Attached(); {
	case from == nil:
		return usable, errors.New("the laptop is on a network already")
	case on != "":
		return usable, fmt.Errorf("the laptop's %s is there already", on)
	}
	// The far end of the laptop's link is handed over from router to router:
	// to the laptop it is the same interface all the time.
	if to != from {
		far, err := from.Router.Netlink.LinkByName(lan)
		if err != nil {
			return usable, err
		}
		err = steps(
			func() error { return from.Router.Netlink.LinkSetNsFd(far, int(to.Router.ns)) },
			func() error { return to.Router.SetMTU(lan, to.options.MTU) },
			func() error { return l.Laptop.SetMTU(Uplink, to.options.MTU) },
		)
		if err != nil {
			return usable, err
		}
	}
	l.mu.Lock()
	l.air = nil
	l.mu.Unlock()
	to.mu.Lock()
	to.uplink = Uplink
	to.mu.Unlock()
	if usable, err = to.turnOn(); err != nil {
		return usable, err
	}
	return usable, to.configureLaptop()
}

// Forget takes away from the laptop what it learned on an interface, as
// network managers do when the carrier is gone: addresses and routes that are
// not of somebody's own making. Those of a CLAT (another routing protocol, an
// address that is neither from SLAAC nor from DHCP) stay.
func (l *Lab) Forget(ifname string) error {
	if err := l.forget(ifname); err != nil {
		return fmt.Errorf("lab: forget the network on %s: %w", ifname, err)
	}
	return nil
}

func (l *Lab) forget(ifname string) error {
	link, err := l.Laptop.Netlink.LinkByName(ifname)
	if err != nil {
		return err
	}
	routes, err := dump(func() ([]netlink.Route, error) { return l.Laptop.Netlink.RouteList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	for _, r := range routes {
		learned := r.Protocol == unix.RTPROT_RA || r.Protocol == unix.RTPROT_BOOT && isDefault(r)
		if learned {
			if err := l.Laptop.Netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	addrs, err := l.Laptop.addresses(ifname, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		// Addresses of SLAAC and DHCPv6 have lifetimes.
		slaac := a.IP.To4() == nil && a.Flags&unix.IFA_F_PERMANENT == 0 && !a.IP.IsLinkLocalUnicast()
		if slaac || a.IP.To4() != nil && l.isNative(a.IP) {
			if err := l.Laptop.Netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return err
			}
		}
	}
	return nil
}

// isNative reports whether an IPv4 address is what SetNativeIPv4 gives.
func (l *Lab) isNative(ip net.IP) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.networks {
		if ip.Equal(n.NativeLaptop().AsSlice()) {
			return true
		}
	}
	return false
}
