// Package nexthop reads the next hops of routes that name nexthop objects, and
// restores such objects.
//
// Routes may name a nexthop object (`ip nexthop`, Linux 5.3) or a group of them.
// The kernel reports the next hops with the route, unless the sysctl
// net.ipv4.nexthop_compat_mode is 0: then it reports only the number of the object, and
// netlink.Route has no next hop at all.
package nexthop

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tnat64d/internal/dump"
)

// Client reads and restores nexthop objects by netlink.
type Client struct {
	// Socket is used for all requests and stays the caller's. If it is nil, each
	// request opens one in the network namespace of the calling thread.
	Socket *nl.SocketHandle
}

// Object is a nexthop object.
type Object struct {
	IPv6     bool // an IPv6 route may name it; with an IPv6 gateway an IPv4 route as well
	Link     int
	Gateway  netip.Addr // may be invalid; of either family
	Flags    int        // RTNH_F_*
	Protocol int        // RTPROT_*: who made it
	Members  []Member   // of a group, which has only these and Protocol
	// special: it has an encapsulation, or is a resilient group, which this
	// package cannot make anew.
	special bool
}

// Member is a member of a group.
type Member struct {
	ID     uint32
	Weight int // from 1
}

const (
	rtaNHID     = 30 // RTA_NH_ID of linux/rtnetlink.h
	sizeofNHMsg = 8  // struct nhmsg of linux/nexthop.h
	sizeofNHGrp = 8  // struct nexthop_grp
	resilient   = 1  // NEXTHOP_GRP_TYPE_RES

	// Offsets of nh_protocol and nh_flags in struct nhmsg.
	offsetProtocol = 2
	offsetFlags    = 4
)

// hasHops reports whether the kernel has reported the next hops of r, or r is of a
// type that has none.
func hasHops(r netlink.Route) bool {
	return r.Type != unix.RTN_UNICAST || r.LinkIndex != 0 || len(r.MultiPath) > 0
}

// Complete adds the next hops of their nexthop objects to those of rs, routes of
// one family in the order of a dump, that lack them.
func (k Client) Complete(family int, rs []netlink.Route) error {
	lacking := 0
	for _, r := range rs {
		if !hasHops(r) {
			lacking++
		}
	}
	if lacking == 0 {
		return nil
	}
	extras, err := k.Extras(family, rs)
	if err != nil {
		return err
	}
	objects, err := k.Objects()
	if err != nil {
		return err
	}
	for i := range rs {
		if !hasHops(rs[i]) && extras[i].Object != 0 {
			setHops(&rs[i], family, extras[i].Object, objects)
		}
	}
	return nil
}

// Extras returns what netlink.Route does not have of each of rs, unicast routes of one
// family in the order of a dump.
func (k Client) Extras(family int, rs []netlink.Route) ([]Extra, error) {
	type keyed struct {
		key   routeKey
		extra Extra
	}
	byKey := make(map[routeKey][]Extra, len(rs))
	for _, r := range rs {
		byKey[routeKeyOf(r)] = nil
	}
	all, err := whole(func() (all []keyed, err error) {
		req := k.request(unix.RTM_GETROUTE)
		req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}})
		err = req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(m []byte) bool {
			key, extra, ok := parseExtra(m)
			if _, asked := byKey[key]; ok && asked {
				all = append(all, keyed{key, extra})
			}
			return true
		})
		return all, err
	})
	for _, n := range all {
		byKey[n.key] = append(byKey[n.key], n.extra)
	}
	extras := make([]Extra, len(rs))
	for i, r := range rs {
		if key := routeKeyOf(r); r.Type == unix.RTN_UNICAST && len(byKey[key]) > 0 {
			extras[i], byKey[key] = byKey[key][0], byKey[key][1:]
		}
	}
	return extras, err
}

// setHops gives r the next hops of a nexthop object. A route by a blackhole, or by
// an object that has gone, has none.
func setHops(r *netlink.Route, family int, id uint32, objects map[uint32]Object) {
	o := objects[id]
	gateway := func(n Object) (net.IP, netlink.Destination) { return Gateway(family, n.Gateway) }
	if o.Members == nil {
		r.LinkIndex, r.Flags = o.Link, r.Flags|o.Flags
		r.Gw, r.Via = gateway(o)
		r.Encap = encapOf(o)
		return
	}
	for _, m := range o.Members {
		n, ok := objects[m.ID]
		if !ok || n.Link == 0 {
			continue
		}
		h := &netlink.NexthopInfo{LinkIndex: n.Link, Hops: m.Weight - 1, Flags: n.Flags, Encap: encapOf(n)}
		h.Gw, h.Via = gateway(n)
		r.MultiPath = append(r.MultiPath, h)
	}
}

// Gateway returns a gateway in the form that netlink has for a route of a family.
func Gateway(family int, gateway netip.Addr) (gw net.IP, via netlink.Destination) {
	if gateway.Is6() && family == unix.AF_INET {
		return nil, &netlink.Via{AddrFamily: unix.AF_INET6, Addr: gateway.AsSlice()}
	}
	return gateway.AsSlice(), nil
}

// encapOf returns an encapsulation whose kind does not matter if n has one.
func encapOf(n Object) netlink.Encap {
	if n.special {
		return &netlink.MPLSEncap{}
	}
	return nil
}

// routeKey tells the routes of a family apart. Of those with the same key, which
// IPv4 permits, a dump has the first one first.
type routeKey struct {
	table, metric, tos int
	dst                netip.Prefix
}

func routeKeyOf(r netlink.Route) routeKey {
	key := routeKey{table: r.Table, metric: r.Priority, tos: r.Tos}
	if r.Dst != nil {
		ones, _ := r.Dst.Mask.Size()
		key.dst = netip.PrefixFrom(addressOf(r.Dst.IP), ones)
	}
	return key
}

// addressOf returns an invalid address for one of neither length.
func addressOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func (k Client) request(kind int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, unix.NLM_F_DUMP)
	if k.Socket != nil {
		req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.Socket}
	}
	return req
}

// whole repeats a dump during which the list has changed.
func whole[T any](list func() (T, error)) (T, error) { return dump.Whole(10, 0, list) }

// Objects returns the nexthop objects by their numbers.
func (k Client) Objects() (map[uint32]Object, error) {
	messages, err := whole(func() ([][]byte, error) {
		req := k.request(unix.RTM_GETNEXTHOP)
		req.AddRawData(make([]byte, sizeofNHMsg))
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEXTHOP)
	})
	all := make(map[uint32]Object, len(messages))
	for _, m := range messages {
		if id, n, ok := parseObject(m); ok {
			all[id] = n
		}
	}
	return all, err
}

// parseObject reads an RTM_NEWNEXTHOP message.
func parseObject(m []byte) (id uint32, n Object, ok bool) {
	if len(m) < sizeofNHMsg {
		return 0, n, false
	}
	attrs, err := nl.ParseRouteAttr(m[sizeofNHMsg:])
	if err != nil {
		return 0, n, false
	}
	n.IPv6, n.Flags, n.Protocol = m[0] == unix.AF_INET6, int(number32(m[offsetFlags:])), int(m[offsetProtocol])
	for _, at := range attrs {
		switch v := at.Value; at.Attr.Type {
		case unix.NHA_ID:
			id = number32(v)
		case unix.NHA_OIF:
			n.Link = int(number32(v))
		case unix.NHA_GATEWAY:
			n.Gateway, _ = netip.AddrFromSlice(v)
		case unix.NHA_ENCAP_TYPE:
			n.special = true
		case unix.NHA_GROUP_TYPE:
			n.special = n.special || len(v) >= 2 && binary.NativeEndian.Uint16(v) == resilient
		case unix.NHA_GROUP:
			n.Members = []Member{}
			for ; len(v) >= sizeofNHGrp; v = v[sizeofNHGrp:] {
				// id, weight - 1, and since Linux 6.13 the upper byte of that
				n.Members = append(n.Members, Member{number32(v), int(v[4]) + int(v[5])<<8 + 1})
			}
		}
	}
	return id, n, id != 0
}

// number32 reads an attribute of 32 bits in host byte order; 0 if it is shorter.
func number32(v []byte) uint32 {
	if len(v) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}
