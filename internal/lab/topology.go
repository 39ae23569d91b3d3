package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// end is one end of a link.
type end struct {
	host   *Host
	ifname string
	mac    net.HardwareAddr
}

// connect makes a veth pair between two hosts, both ends still down. It is
// created inside the namespaces: the machine's own never sees it.
func connect(a, b end, mtu int) error {
	link := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: a.ifname, MTU: mtu, HardwareAddr: a.mac},
		PeerName:         b.ifname,
		PeerHardwareAddr: b.mac,
		PeerNamespace:    netlink.NsFd(b.host.ns),
		PeerMTU:          uint32(mtu),
	}
	if err := a.host.Netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("connect %s:%s to %s:%s: %w", a.host.Name, a.ifname, b.host.Name, b.ifname, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// steps runs functions until one fails.
func steps(list ...func() error) error {
	for _, f := range list {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// wrap says in an error what was being done.
func wrap(err *error, doing string, args ...any) {
	if *err != nil {
		*err = fmt.Errorf("%s: %w", fmt.Sprintf(doing, args...), *err)
	}
}

var (
	anyIPv4 = netip.MustParsePrefix("0.0.0.0/0")
	anyIPv6 = netip.MustParsePrefix("::/0")
)

// wire builds every link, address and route except those of the PLAT. The
// laptop's uplink stays down.
func (l *Lab) wire() error {
	return steps(
		l.Router.infrastructure,
		l.internet.wire,
		l.Network.forwarding,
		func() error { return l.plug(Uplink, hardwareAddr(0x10), l.Network) },
		l.Network.wireISP,
	)
}
