package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// uplinks are the laptop's interfaces towards networks.
type uplinks struct {
	lab *Lab

	mu  sync.Mutex
	air *Network // that the laptop's first interface was on, while it is on none
}

// AddUplink gives the laptop another interface, on a network of its own (from
// AddNetwork), and returns at once: see WaitOnline. [Uplink2] is a good name.
func (u *uplinks) AddUplink(ifname string, n *Network) (err error) {
	defer wrap(&err, "lab: uplink %s", ifname)
	n.attaching.Lock()
	defer n.attaching.Unlock()
	if on := n.Attached(); on != "" {
		return fmt.Errorf("the laptop's %s is on %s already", on, n.Name)
	}
	mac := hardwareAddr(0x10)
	mac[4] = byte(n.number)
	return steps(
		func() error { return u.plug(ifname, mac, n) },
		func() error {
			_, err := n.carrierOn()
			return err
		},
		func() error { return u.lab.Laptop.up(ifname) },
		n.configureLaptop,
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
func (u *uplinks) Roam(ctx context.Context, to *Network) (usable time.Time, err error) {
	err = steps(
		u.Detach,
		func() error { return u.lab.Laptop.waitNoCarrier(ctx, Uplink) },
		func() error { return u.Forget(Uplink) },
		func() error {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(association):
				return nil
			}
		},
		func() error {
			usable, err = u.Attach(to)
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
func (u *uplinks) Flap(ctx context.Context, away time.Duration) (usable time.Time, err error) {
	n := u.on(Uplink)
	if n == nil {
		return usable, errors.New("lab: flap: the laptop is on no network")
	}
	if _, err := n.SetCarrier(false); err != nil {
		return usable, err
	}
	err = steps(
		func() error { return u.lab.Laptop.waitNoCarrier(ctx, Uplink) },
		func() error { return u.Forget(Uplink) },
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
func (u *uplinks) on(ifname string) *Network {
	l := u.lab
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
func (u *uplinks) Detach() error {
	n := u.on(Uplink)
	if n == nil {
		return nil
	}
	n.attaching.Lock()
	defer n.attaching.Unlock()
	if err := n.carrierOff(); err != nil {
		return fmt.Errorf("lab: detach: %w", err)
	}
	n.setAttached("")
	u.mu.Lock()
	u.air = n
	u.mu.Unlock()
	return nil
}

// Attach puts the laptop's first interface, which Detach took off its network,
// on one. It returns when the network was usable: just after its first Router
// Advertisement, which follows the carrier.
func (u *uplinks) Attach(to *Network) (usable time.Time, err error) {
	defer wrap(&err, "lab: attach to %s", to.Name)
	to.attaching.Lock()
	defer to.attaching.Unlock()
	u.mu.Lock()
	from := u.air
	u.mu.Unlock()
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
			func() error { return u.lab.Laptop.SetMTU(Uplink, to.options.MTU) },
		)
		if err != nil {
			return usable, err
		}
	}
	u.mu.Lock()
	u.air = nil
	u.mu.Unlock()
	to.setAttached(Uplink)
	if usable, err = to.carrierOn(); err != nil {
		return usable, err
	}
	return usable, to.configureLaptop()
}

// Forget takes away from the laptop what it learned on an interface, as
// network managers do when the carrier is gone: addresses and routes that are
// not of somebody's own making. Those of a CLAT (another routing protocol, an
// address that is neither from SLAAC nor from DHCP) stay.
func (u *uplinks) Forget(ifname string) (err error) {
	l := u.lab
	defer wrap(&err, "lab: forget the network on %s", ifname)
	link, err := l.Laptop.Netlink.LinkByName(ifname)
	if err != nil {
		return err
	}
	routes, err := whole(func() ([]netlink.Route, error) { return l.Laptop.Netlink.RouteList(link, netlink.FAMILY_ALL) })
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
		if slaac || a.IP.To4() != nil && u.isNative(a.IP) {
			if err := l.Laptop.Netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return err
			}
		}
	}
	return nil
}

// isNative reports whether an IPv4 address is what SetNativeIPv4 gives.
func (u *uplinks) isNative(ip net.IP) bool {
	l := u.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.networks {
		if ip.Equal(n.NativeLaptop().AsSlice()) {
			return true
		}
	}
	return false
}
