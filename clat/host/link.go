package host

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// SetTUN makes the link look like t. No address is generated on it: a
// link-local one would only make the kernel send router solicitations and MLD
// reports that nobody answers.
func (k links) SetTUN(t plan.TUNLink) error {
	l, err := k.handle.LinkByIndex(t.Index)
	if err != nil {
		return err
	}
	a := l.Attrs()
	if err := k.handle.LinkSetIP6AddrGenMode(l, nl.IN6_ADDR_GEN_MODE_NONE); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("no generated addresses: %w", err)
	}
	if a.Alias != t.Alias {
		if err := k.handle.LinkSetAlias(l, t.Alias); err != nil {
			return fmt.Errorf("alias: %w", err)
		}
	}
	if a.MTU != int(t.MTU) {
		if err := k.handle.LinkSetMTU(l, int(t.MTU)); err != nil {
			return fmt.Errorf("MTU %d: %w", t.MTU, err)
		}
	}
	if t.QueueLen != 0 && a.TxQLen != t.QueueLen {
		if err := k.handle.LinkSetTxQLen(l, t.QueueLen); err != nil {
			return fmt.Errorf("queue length: %w", err)
		}
	}
	addr := &netlink.Addr{IPNet: ipNet(t.IPv4), Scope: unix.RT_SCOPE_UNIVERSE}
	if err := k.handle.AddrAdd(l, addr); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("address %s: %w", t.IPv4, err)
	}
	if err := k.handle.LinkSetUp(l); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if err := k.addLocalRoute(t.Index, t.IPv4); err != nil {
		return fmt.Errorf("local route of %s: %w", t.IPv4, err)
	}
	return nil
}

// AddRoute adds an IPv4 default route or a part of one. Routes of other programs
// with the same metric stay and take precedence, unless the metric is 0.
func (k *routes) AddRoute(r plan.Route) error {
	add := k.handle.RouteAppend
	if r.Metric == 0 {
		add = k.handle.RouteAddEcmp // without NLM_F_APPEND it goes before its like
	}
	err := add(netlinkRoute(r))
	if errors.Is(err, unix.EEXIST) {
		return nil // this very route is there
	}
	return err
}

// DelRoute removes exactly r.
func (k *routes) DelRoute(r plan.Route) error {
	return unlessGone(k.handle.RouteDel(netlinkRoute(r)))
}

func netlinkRoute(r plan.Route) *netlink.Route {
	n := &netlink.Route{
		LinkIndex: r.Link, Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		Src: r.Source.AsSlice(), Gw: r.Gateway.AsSlice(), Scope: netlink.SCOPE_LINK, Priority: r.Metric, MTU: r.MTU,
		Table: r.Table, Protocol: netlink.RouteProtocol(r.Protocol), Type: unix.RTN_UNICAST,
	}
	if r.Part.IsValid() {
		n.Dst = &net.IPNet{IP: r.Part.Addr().AsSlice(), Mask: net.CIDRMask(r.Part.Bits(), 32)}
	}
	if r.IPv6 {
		n.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		n.Scope = netlink.SCOPE_UNIVERSE // IPv6 knows no other
	}
	return n
}
