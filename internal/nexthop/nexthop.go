// Package nexthop reads the next hops of routes that name nexthop objects.
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

// Reader reads nexthop objects by netlink.
type Reader struct {
	// Socket is used for all requests and stays the caller's. If it is nil, each
	// request opens one in the network namespace of the calling thread.
	Socket *nl.SocketHandle
}

// object is a nexthop object.
type object struct {
	link    int
	gateway netip.Addr // may be invalid; of either family
	flags   int        // RTNH_F_*
	encap   bool
	members []member // of a group, which has nothing else
}

// member is a member of a group.
type member struct {
	id     uint32
	weight int // from 1
}

const (
	rtaNHID          = 30 // RTA_NH_ID of linux/rtnetlink.h
	sizeofNHMsg      = 8  // struct nhmsg of linux/nexthop.h
	sizeofNHGrp      = 8  // struct nexthop_grp
	offsetNHMsgFlags = 4
)

// hasHops reports whether the kernel has reported the next hops of r, or r is of a
// type that has none.
func hasHops(r netlink.Route) bool {
	return r.Type != unix.RTN_UNICAST || r.LinkIndex != 0 || len(r.MultiPath) > 0
}

// Complete adds the next hops of their nexthop objects to those of rs, routes of
// one family in the order of a dump, that lack them.
func (k Reader) Complete(family int, rs []netlink.Route) error {
	lacking := 0
	for _, r := range rs {
		if !hasHops(r) {
			lacking++
		}
	}
	if lacking == 0 {
		return nil
	}
	ids, err := k.ids(family)
	if err != nil {
		return err
	}
	objects, err := k.list()
	if err != nil {
		return err
	}
	for i := range rs {
		key := routeKeyOf(rs[i])
		if hasHops(rs[i]) || len(ids[key]) == 0 {
			continue
		}
		id := ids[key][0]
		ids[key] = ids[key][1:]
		setHops(&rs[i], family, id, objects)
	}
	return nil
}

// setHops gives r the next hops of a nexthop object. A route by a blackhole, or by
// an object that has gone, has none.
func setHops(r *netlink.Route, family int, id uint32, objects map[uint32]object) {
	o := objects[id]
	gateway := func(n object) (net.IP, netlink.Destination) { return Gateway(family, n.gateway) }
	if o.members == nil {
		r.LinkIndex, r.Flags = o.link, r.Flags|o.flags
		r.Gw, r.Via = gateway(o)
		r.Encap = encapOf(o)
		return
	}
	for _, m := range o.members {
		n, ok := objects[m.id]
		if !ok || n.link == 0 {
			continue
		}
		h := &netlink.NexthopInfo{LinkIndex: n.link, Hops: m.weight - 1, Flags: n.flags, Encap: encapOf(n)}
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
func encapOf(n object) netlink.Encap {
	if n.encap {
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

func (k Reader) request(kind int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, unix.NLM_F_DUMP)
	if k.Socket != nil {
		req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: k.Socket}
	}
	return req
}

// whole repeats a dump during which the list has changed.
func whole[T any](list func() (T, error)) (T, error) { return dump.Whole(10, 0, list) }

// ids returns the numbers of the nexthop objects of those routes of a
// family of which the kernel reports no more.
func (k Reader) ids(family int) (map[routeKey][]uint32, error) {
	type named struct {
		key routeKey
		id  uint32
	}
	all, err := whole(func() (all []named, err error) {
		req := k.request(unix.RTM_GETROUTE)
		req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family)}})
		err = req.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, func(m []byte) bool {
			if key, id, ok := parseNamed(m); ok {
				all = append(all, named{key, id})
			}
			return true
		})
		return all, err
	})
	ids := map[routeKey][]uint32{}
	for _, n := range all {
		ids[n.key] = append(ids[n.key], n.id)
	}
	return ids, err
}

// parseNamed reads an RTM_NEWROUTE message of a route that has the number of a
// nexthop object and no next hop.
func parseNamed(m []byte) (key routeKey, id uint32, ok bool) {
	if len(m) < unix.SizeofRtMsg {
		return key, 0, false
	}
	head := nl.DeserializeRtMsg(m)
	attrs, err := nl.ParseRouteAttr(m[unix.SizeofRtMsg:])
	if err != nil || head.Type != unix.RTN_UNICAST {
		return key, 0, false
	}
	dst := netip.IPv4Unspecified()
	if head.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	key = routeKey{table: int(head.Table), tos: int(head.Tos)}
	for _, at := range attrs {
		switch v := at.Value; at.Attr.Type {
		case unix.RTA_OIF, unix.RTA_MULTIPATH:
			return key, 0, false
		case unix.RTA_DST:
			dst = addressOf(v)
		case unix.RTA_TABLE: // head.Table has 8 bits
			key.table = int(number32(v))
		case unix.RTA_PRIORITY:
			key.metric = int(number32(v))
		case rtaNHID:
			id = number32(v)
		}
	}
	key.dst = netip.PrefixFrom(dst, int(head.Dst_len))
	return key, id, id != 0
}

// list lists the nexthop objects by their numbers.
func (k Reader) list() (map[uint32]object, error) {
	messages, err := whole(func() ([][]byte, error) {
		req := k.request(unix.RTM_GETNEXTHOP)
		req.AddRawData(make([]byte, sizeofNHMsg))
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEXTHOP)
	})
	objects := make(map[uint32]object, len(messages))
	for _, m := range messages {
		if id, n, ok := parseObject(m); ok {
			objects[id] = n
		}
	}
	return objects, err
}

// parseObject reads an RTM_NEWNEXTHOP message.
func parseObject(m []byte) (id uint32, n object, ok bool) {
	if len(m) < sizeofNHMsg {
		return 0, n, false
	}
	attrs, err := nl.ParseRouteAttr(m[sizeofNHMsg:])
	if err != nil {
		return 0, n, false
	}
	n.flags = int(number32(m[offsetNHMsgFlags:]))
	for _, at := range attrs {
		switch v := at.Value; at.Attr.Type {
		case unix.NHA_ID:
			id = number32(v)
		case unix.NHA_OIF:
			n.link = int(number32(v))
		case unix.NHA_GATEWAY:
			n.gateway, _ = netip.AddrFromSlice(v)
		case unix.NHA_ENCAP_TYPE:
			n.encap = true
		case unix.NHA_GROUP:
			n.members = []member{}
			for ; len(v) >= sizeofNHGrp; v = v[sizeofNHGrp:] {
				// id, weight - 1, and since Linux 6.13 the upper byte of that
				n.members = append(n.members, member{number32(v), int(v[4]) + int(v[5])<<8 + 1})
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
