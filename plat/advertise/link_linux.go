package advertise

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"tnat64d/internal/dump"
)

// allNodes is where advertisements go, allRouters where solicitations come.
var (
	allNodes   = netip.IPv6LinkLocalAllNodes()
	allRouters = netip.IPv6LinkLocalAllRouters()
)

// NewLink returns the network interface of that name, which need not be there
// yet. Advertisements come from the link-local address source; if that is the zero
// Addr, from any. Opening it takes CAP_NET_RAW.
func NewLink(name string, source netip.Addr) Link { return &link{name: name, source: source} }

type link struct {
	name   string
	source netip.Addr // zero: any
	last   netip.Addr // the address of the last socket
}

// State returns what the interface is now.
func (l *link) State() (State, error) {
	i, err := net.InterfaceByName(l.name)
	if err != nil {
		return State{}, fmt.Errorf("there is no interface %s", l.name)
	}
	if i.Flags&net.FlagUp == 0 {
		return State{}, fmt.Errorf("%s is down", l.name)
	}
	addresses, err := dump.Whole(100, 10*time.Millisecond, func() ([]netlink.Addr, error) {
		return netlink.AddrList(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: i.Index}}, unix.AF_INET6)
	})
	if err != nil {
		return State{}, fmt.Errorf("list the addresses of %s: %w", i.Name, err)
	}
	s := State{Name: i.Name, MTU: i.MTU, Hardware: i.HardwareAddr}
	local := false
	for _, a := range addresses {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		ones, _ := a.Mask.Size()
		p := netip.PrefixFrom(ip, ones)
		local = local || ip.IsLinkLocalUnicast() && l.uses(ip)
		s.Addresses = append(s.Addresses, p)
		// An administrator may keep an address from being a source by a preferred
		// lifetime of 0; such a one has no end.
		if a.Flags&(unix.IFA_F_DEPRECATED|unix.IFA_F_PERMANENT) == unix.IFA_F_DEPRECATED {
			s.Ending = append(s.Ending, p)
		}
	}
	if !local && l.source.IsValid() {
		return s, fmt.Errorf("%w: %s does not have %s", ErrStandby, i.Name, l.source)
	}
	if !local {
		return s, fmt.Errorf("%s has no link-local address", i.Name)
	}
	return s, nil
}

// uses reports whether advertisements may come from a link-local address.
func (l *link) uses(a netip.Addr) bool { return !l.source.IsValid() || a == l.source }

// Open opens an ICMPv6 socket on the interface.
func (l *link) Open() (Conn, error) {
	i, err := net.InterfaceByName(l.name)
	if err != nil {
		return nil, err
	}
	state, err := l.State()
	if err != nil {
		return nil, err
	}
	own := slices.DeleteFunc(linkLocal(state.Addresses, l.last), func(a netip.Addr) bool { return !l.uses(a) })
	c, last, err := listen(i, own)
	if err != nil {
		return nil, err
	}
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterSolicitation)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	err = errors.Join(c.SetICMPFilter(&filter), c.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true), c.JoinGroup(allRouters))
	if err != nil {
		c.Close()
		return nil, err
	}
	l.last = last
	return &socket{conn: c, own: last, index: i.Index, buffer: make([]byte, 65536)}, nil
}

// linkLocal returns the link-local ones of addresses in the order in which they
// are tried as the router's address: the last one first, because hosts take
// another address for another router (RFC 4861 section 6.2.8).
func linkLocal(addresses []netip.Prefix, last netip.Addr) (all []netip.Addr) {
	for _, p := range addresses {
		if p.Addr().IsLinkLocalUnicast() {
			all = append(all, p.Addr())
		}
	}
	slices.SortFunc(all, func(a, b netip.Addr) int {
		switch last {
		case a:
			return -1
		case b:
			return 1
		}
		return a.Compare(b)
	})
	return all
}

// listen opens a socket from the first of addresses that can be used. The kernel
// refuses those that are tentative (RFC 4862 section 5.4), so that one of them
// does not delay a router that has another.
func listen(i *net.Interface, addresses []netip.Addr) (c *ndp.Conn, own netip.Addr, err error) {
	// Package net remembers for a minute which index a name has, and would bind to
	// the one that an interface had before it was removed and made again.
	byIndex := *i
	byIndex.Name = strconv.Itoa(i.Index)
	i = &byIndex
	for _, own = range addresses {
		if c, _, err = ndp.Listen(i, ndp.Addr(own.String())); err == nil {
			return c, own, nil
		}
	}
	return nil, own, err
}

// socket is a Conn.
type socket struct {
	conn   *ndp.Conn
	own    netip.Addr
	index  int
	buffer []byte
}

// Send sends an advertisement to all nodes of the link.
func (s *socket) Send(m *ndp.RouterAdvertisement) error { return s.conn.WriteTo(m, nil, allNodes) }

// Close closes the socket.
func (s *socket) Close() error { return s.conn.Close() }

// Receive returns the next valid message of another node.
func (s *socket) Receive() (ndp.Message, netip.Addr, error) {
	for {
		n, control, from, err := s.conn.ReadRaw(s.buffer)
		if err != nil {
			return nil, netip.Addr{}, err
		}
		from = from.WithZone("")
		if from == s.own || control == nil || control.HopLimit != ndp.HopLimit || control.IfIndex != s.index {
			continue
		}
		if m, ok := parse(s.buffer[:n], from); ok {
			return m, from, nil
		}
	}
}

// parse reads a solicitation or an advertisement and says whether it is valid
// (RFC 4861 sections 6.1.1 and 6.1.2); the kernel has checked the checksum.
func parse(b []byte, from netip.Addr) (ndp.Message, bool) {
	if len(b) < 8 || b[1] != 0 { // code
		return nil, false
	}
	m, err := ndp.ParseMessage(b)
	if err != nil {
		return nil, false
	}
	switch m := m.(type) {
	case *ndp.RouterSolicitation:
		// From the unspecified address it has no link-layer address.
		for _, o := range m.Options {
			if _, ok := o.(*ndp.LinkLayerAddress); ok && from.IsUnspecified() {
				return nil, false
			}
		}
		return m, true
	case *ndp.RouterAdvertisement:
		return m, from.IsLinkLocalUnicast()
	}
	return nil, false
}
