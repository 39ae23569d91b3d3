package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neighbour is another station on a network's link: a namespace with the
// interface [NeighbourInterface], a MAC address of its own and root's rights
// over both. It exchanges frames with the laptop, and hears its multicasts. It
// does not exchange frames with the router.
type Neighbour struct {
	*Host
	MAC   net.HardwareAddr
	Local netip.Addr // its link-local address

	index int
}

// NeighbourInterface is the name of a neighbour's interface.
const NeighbourInterface = "eth0"

// AddNeighbour puts another station on the network's link, which has to have a
// carrier. It leaves with the lab.
func (n *Network) AddNeighbour() (neighbour *Neighbour, err error) {
	defer wrap(&err, "lab: neighbour")
	l := n.lab
	l.mu.Lock()
	number := byte(len(l.guests) + 1)
	l.mu.Unlock()
	host, err := newHost(l.ID, fmt.Sprint("neighbour", number))
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.guests = append(l.guests, host)
	l.mu.Unlock()
	b := &Neighbour{
		Host:  host,
		MAC:   hardwareAddr(0x30 + number),
		Local: netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 14: 0xba, 15: number}),
	}
	return b, steps(
		host.infrastructure,
		func() error { return b.connect(n) },
		func() error { return host.up(NeighbourInterface) },
		func() error { return host.address(NeighbourInterface, b.Local, 64) },
	)
}

// connect gives b a part of the router's end of the link: a MACVLAN,
// which speaks with what is at the other end and not with the router itself.
func (b *Neighbour) connect(n *Network) error {
	parent, err := n.Router.Netlink.LinkByName(lan)
	if err != nil {
		return err
	}
	err = n.Router.Netlink.LinkAdd(&netlink.Macvlan{
		LinkAttrs: netlink.LinkAttrs{
			Name: NeighbourInterface, ParentIndex: parent.Attrs().Index, HardwareAddr: b.MAC,
			Namespace: netlink.NsFd(b.ns),
		},
		Mode: netlink.MACVLAN_MODE_BRIDGE,
	})
	if err != nil {
		return fmt.Errorf("connect it to %s:%s: %w", n.Router.Name, lan, err)
	}
	own, err := b.Netlink.LinkByName(NeighbourInterface)
	if err != nil {
		return err
	}
	b.index = own.Attrs().Index
	return nil
}

// Send puts an Ethernet frame on the link as it is, without FCS.
func (b *Neighbour) Send(frame []byte) error {
	err := b.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: b.index})
	})
	if err != nil {
		return fmt.Errorf("%s sends a frame: %w", b.Name, err)
	}
	return nil
}
