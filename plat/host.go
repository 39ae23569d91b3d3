package plat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/internal/dump"
	"tnat64d/siit"
)

// Alias marks the TUN as ours (IFLA_IFALIAS).
const Alias = "tnat64-gateway"

// routeProtocol marks our routes, as it does those of tnat64d.
const routeProtocol = 64

// tunQueue is how many packets may wait at the TUN: 500, the default, are too few
// for the handshakes of many clients at once.
const tunQueue = 10000

// observed is what of the host matters to the translator.
type observed struct {
	own        []netip.Prefix // the host's IPv4 addresses, as /32
	outside    []string
	mtu6, mtu4 int
}

// observe reads the host's addresses and links. They may change while it reads, so
// that it has patience.
func observe(h *netlink.Handle, c Config) (observed, error) {
	return dump.Whole(100, 10*time.Millisecond, func() (observed, error) { return observeOnce(h, c) })
}

func observeOnce(h *netlink.Handle, c Config) (o observed, err error) {
	links, err := h.LinkList()
	if err != nil {
		return o, fmt.Errorf("list the interfaces: %w", err)
	}
	addrs, err := h.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return o, fmt.Errorf("list the addresses: %w", err)
	}
	for _, a := range addrs {
		for _, ip := range []net.IP{a.IP, a.Broadcast, broadcast(a.IPNet)} {
			b, ok := netip.AddrFromSlice(ip.To4())
			if p := netip.PrefixFrom(b, 32); ok && !b.IsUnspecified() && !slices.Contains(o.own, p) {
				o.own = append(o.own, p)
			}
		}
	}
	if o.outside = c.Outside; len(o.outside) == 0 {
		if o.outside, err = defaultOutside(h, links, c.TUN); err != nil {
			return o, err
		}
	}
	o.mtu6, o.mtu4 = lowest(links, c.Inside, 1280), lowest(links, o.outside, 68)
	return o, nil
}

// broadcast returns the last address of a link's IPv4 network, to which the kernel
// listens also where the address has been set without a broadcast address; nil if
// the network has none (RFC 3021).
func broadcast(n *net.IPNet) net.IP {
	ip := n.IP.To4()
	ones, bits := n.Mask.Size()
	if ip == nil || bits != 32 || ones > 30 {
		return nil
	}
	last := make(net.IP, len(ip))
	for i := range ip {
		last[i] = ip[i] | ^n.Mask[i]
	}
	return last
}

// lowest returns the smallest MTU of the links called names, but no less than
// least; 1500 if there are none.
func lowest(links []netlink.Link, names []string, least int) int {
	mtu := 0
	for _, l := range links {
		if n := l.Attrs().MTU; slices.Contains(names, l.Attrs().Name) && (mtu == 0 || n < mtu) {
			mtu = n
		}
	}
	if mtu == 0 {
		mtu = 1500
	}
	return min(max(mtu, least), 65535)
}

// ErrRouteExists says that the host has a route of the same prefix and metric as one
// that is to lead to the TUN.
var ErrRouteExists = errors.New("the host has another route there")

// setUp makes the TUN ready and leads packets to it. It may be repeated.
func setUp(h *netlink.Handle, index int, c Config) error {
	l, err := h.LinkByIndex(index)
	if err != nil {
		return fmt.Errorf("find %s: %w", c.TUN, err)
	}
	fresh := l.Attrs().Alias != Alias // no route leads to it yet
	if fresh {
		// No addresses and no router solicitations of its own. Routes lead back to all
		// that comes by the TUN, and without rp_filter the kernel need not look.
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+c.TUN+"/addr_gen_mode", []byte("1"), 0)
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+c.TUN+"/accept_ra", []byte("0"), 0)
		_ = os.WriteFile("/proc/sys/net/ipv4/conf/"+c.TUN+"/rp_filter", []byte("0"), 0)
		_ = os.WriteFile("/proc/sys/net/ipv4/conf/"+c.TUN+"/send_redirects", []byte("0"), 0)
		// The TUN takes packets of any size: the translator knows the MTU beyond.
		for _, step := range []error{h.LinkSetMTU(l, 65535), h.LinkSetTxQLen(l, tunQueue), h.LinkSetAlias(l, Alias)} {
			if step != nil {
				return fmt.Errorf("set up %s: %w", c.TUN, step)
			}
		}
	}
	if l.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(l); err != nil {
			return fmt.Errorf("set %s up: %w", c.TUN, err)
		}
	}
	// ICMP errors from routers without an IPv4 address come from the dummy address.
	// The TUN has no address, so that even a loose rp_filter drops what no route by
	// the TUN leads back to, and that of conf/all counts too.
	dummy := netip.PrefixFrom(siit.DummyIPv4, 32)
	destinations := []netip.Prefix{c.Prefix.Masked(), c.Pool.Masked(), dummy}
	for _, p := range c.Static {
		if !c.Pool.Contains(p.IPv4) {
			destinations = append(destinations, netip.PrefixFrom(p.IPv4, 32))
		}
	}
	for _, p := range destinations {
		r := &netlink.Route{
			LinkIndex: index, Protocol: routeProtocol,
			Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		}
		err := h.RouteAdd(r)
		if fresh && p != dummy && errors.Is(err, unix.EEXIST) {
			err = ErrRouteExists
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add the route to %s: %w", p, err)
		}
	}
	return nil
}
