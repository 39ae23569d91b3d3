package lab

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

const (
	vlanID = 7
	port   = "port" // of the interfaces below a bridge, bond or VLAN, with a number
)

// plug makes an interface of the laptop and connects it to a network. Both
// ends stay down.
func (u *uplinks) plug(ifname string, mac net.HardwareAddr, n *Network) error {
	laptop, router := end{u.lab.Laptop, ifname, mac}, end{n.Router, lan, n.mac}
	var err error
	switch n.options.Kind {
	case Bridge:
		err = steps(
			func() error { return connect(laptop.port(0), router, n.options.MTU) },
			func() error { return laptop.above(newBridge(), 0) },
		)
	case Bond:
		err = steps(
			func() error { return connect(laptop.port(0), router.port(0), n.options.MTU) },
			func() error { return connect(laptop.port(1), router.port(1), n.options.MTU) },
			func() error { return laptop.above(newBond(), 0, 1) },
			func() error { return router.above(newBridge(), 0, 1) }, // a switch
		)
	case VLAN:
		err = steps(
			func() error { return connect(laptop.port(0), router.port(0), n.options.MTU) },
			laptop.tag,
			router.tag,
		)
	case PPP:
		err = u.lab.dialPPP(laptop, router)
	case NoARP:
		// Either end sends to its own address, for want of another.
		router.mac = laptop.mac
		err = steps(
			func() error { return connect(laptop, router, n.options.MTU) },
			laptop.withoutARP,
			router.withoutARP,
		)
	case RawIP:
		err = u.lab.connectRawIP(laptop, router)
	case WireGuard:
		err = u.lab.tunnel(laptop, router, wireGuard)
	case GRE:
		err = u.lab.tunnel(laptop, router, gre)
	default:
		err = connect(laptop, router, n.options.MTU)
	}
	if err != nil {
		return fmt.Errorf("%s network: %w", n.options.Kind, err)
	}
	n.setAttached(ifname)
	return nil
}

// port returns the end of the n-th Ethernet link below an interface.
func (e end) port(n int) end {
	mac := append(net.HardwareAddr{}, e.mac...)
	mac[3] = byte(n + 1)
	return end{e.host, fmt.Sprint(port, n), mac}
}

// withoutARP makes the interface of an end one without neighbours.
func (e end) withoutARP() error {
	return e.host.change(e.ifname, "no ARP on", e.host.Netlink.LinkSetARPOff)
}

func newBridge() netlink.Link {
	snooping := false // it speaks IGMP, as if the laptop did
	return &netlink.Bridge{MulticastSnooping: &snooping}
}

func newBond() netlink.Link {
	bond := netlink.NewLinkBond(netlink.LinkAttrs{})
	bond.Mode, bond.Miimon = netlink.BOND_MODE_ACTIVE_BACKUP, 100
	return bond
}

// above makes the interface of an end, a bridge or bond of its ports, and sets
// those up.
func (e end) above(link netlink.Link, ports ...int) error {
	nl := e.host.Netlink
	link.Attrs().Name, link.Attrs().HardwareAddr = e.ifname, e.mac
	if err := nl.LinkAdd(link); err != nil {
		return fmt.Errorf("make %s:%s: %w", e.host.Name, e.ifname, err)
	}
	for _, p := range ports {
		name := e.port(p).ifname
		err := steps(
			func() error {
				return e.host.change(name, "take into "+e.ifname, func(l netlink.Link) error { return nl.LinkSetMaster(l, link) })
			},
			func() error { return e.host.up(name) },
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// tag makes the interface of an end, a VLAN of its first port, and sets that up.
func (e end) tag() error {
	return e.host.change(e.port(0).ifname, "make a VLAN of", func(l netlink.Link) error {
		vlan := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: e.ifname, ParentIndex: l.Attrs().Index, HardwareAddr: e.mac}, VlanId: vlanID}
		return steps(
			func() error { return e.host.Netlink.LinkAdd(vlan) },
			func() error { return e.host.up(e.port(0).ifname) },
		)
	})
}
