package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// interfaces are those of a host.
type interfaces struct {
	Name    string          // of the host: "laptop"
	Netlink *netlink.Handle // speaks to the kernel inside the namespace
}

// change changes an interface. what begins the error.
func (h *interfaces) change(ifname, what string, change func(netlink.Link) error) error {
	link, err := h.Netlink.LinkByName(ifname)
	if err == nil {
		err = change(link)
	}
	if err != nil {
		return fmt.Errorf("%s %s:%s: %w", what, h.Name, ifname, err)
	}
	return nil
}

// up sets an interface up.
func (h *interfaces) up(ifname string) error {
	return h.change(ifname, "set up", h.Netlink.LinkSetUp)
}

// down sets an interface down.
func (h *interfaces) down(ifname string) error {
	return h.change(ifname, "set down", h.Netlink.LinkSetDown)
}

func (h *interfaces) setHardwareAddr(ifname string, mac net.HardwareAddr) error {
	return h.change(ifname, fmt.Sprintf("address %s of", mac), func(l netlink.Link) error { return h.Netlink.LinkSetHardwareAddr(l, mac) })
}

// SetMTU changes the MTU of an interface.
func (h *interfaces) SetMTU(ifname string, mtu int) error {
	return h.change(ifname, fmt.Sprintf("MTU %d of", mtu), func(l netlink.Link) error { return h.Netlink.LinkSetMTU(l, mtu) })
}

func (h *interfaces) setQueueLength(ifname string, packets int) error {
	return h.change(ifname, fmt.Sprintf("queue length %d of", packets), func(l netlink.Link) error { return h.Netlink.LinkSetTxQLen(l, packets) })
}

// address adds an address; an IPv6 one is usable at once.
func (h *interfaces) address(ifname string, addr netip.Addr, bits int) error {
	return h.change(ifname, fmt.Sprintf("address %s/%d on", addr, bits), func(l netlink.Link) error {
		a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, bits))}
		if addr.Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		return h.Netlink.AddrReplace(l, a)
	})
}

// addresses lists the addresses of an interface, or of all if ifname is empty.
func (h *interfaces) addresses(ifname string, family int) ([]netlink.Addr, error) {
	var link netlink.Link
	if ifname != "" {
		var err error
		if link, err = h.Netlink.LinkByName(ifname); err != nil {
			return nil, fmt.Errorf("%s:%s: %w", h.Name, ifname, err)
		}
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return h.Netlink.AddrList(link, family) })
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", h.Name, err)
	}
	return addrs, nil
}

// Addresses returns the addresses of one of the host's interfaces.
func (h *interfaces) Addresses(ifname string) ([]netip.Prefix, error) {
	addrs, err := h.addresses(ifname, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	var list []netip.Prefix
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		list = append(list, netip.PrefixFrom(ip.Unmap(), ones))
	}
	return list, nil
}

// Packets returns how many packets an interface has sent and received; a
// super-packet counts as one.
func (h *interfaces) Packets(ifname string) (sent, received uint64, err error) {
	link, err := h.Netlink.LinkByName(ifname)
	if err != nil {
		return 0, 0, fmt.Errorf("%s:%s: %w", h.Name, ifname, err)
	}
	s := link.Attrs().Statistics
	if s == nil {
		return 0, 0, fmt.Errorf("%s:%s has no statistics", h.Name, ifname)
	}
	return s.TxPackets, s.RxPackets, nil
}

// waitNoCarrier waits until the host knows that an interface has no carrier.
func (h *interfaces) waitNoCarrier(ctx context.Context, ifname string) error {
	for {
		link, err := h.Netlink.LinkByName(ifname)
		if err != nil {
			return fmt.Errorf("%s:%s: %w", h.Name, ifname, err)
		}
		if link.Attrs().OperState != netlink.OperUp {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s:%s still has a carrier: %w", h.Name, ifname, context.Cause(ctx))
		case <-time.After(5 * time.Millisecond):
		}
	}
}
