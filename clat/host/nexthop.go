package host

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Routes may name a nexthop object (`ip nexthop`, Linux 5.3) or a group of them.
// The kernel tells the next hops with the route, unless the sysctl
// net.ipv4.nexthop_compat_mode is 0: then it tells only the object's number, and
// netlink.Route has no next hop at all.

// nexthop is a nexthop object.
type nexthop struct {
	link    int
	gateway netip.Addr // may be invalid; of either family
	flags   int        // RTNH_F_*
	encap   bool
	members []nexthopMember // of a group, which has nothing else
}

// nexthopMember is a member of a group.
type nexthopMember struct {
	id     uint32
	weight int // from 1
}

const (
	rtaNHID          = 30 // RTA_NH_ID of linux/rtnetlink.h
	sizeofNHMsg      = 8  // struct nhmsg of linux/nexthop.h
	sizeofNHGrp      = 8  // struct nexthop_grp
	offsetNHMsgFlags = 4
)

// hasHops reports whether the kernel has told the next hops of r, or it is none
// that has any.
func hasHops(r netlink.Route) bool {
	return r.Type != unix.RTN_UNICAST || r.LinkIndex != 0 || len(r.MultiPath) > 0
}

// complete gives the next hops of their nexthop objects to those of rs, routes of
// one family in the order of a dump, that lack them.
func (k nexthops) complete(family int, rs []netlink.Route) error {
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
func setHops(r *netlink.Route, family int, id uint32, objects map[uint32]nexthop) {
	o := objects[id]
	gateway := func(n nexthop) (net.IP, netlink.Destination) {
		return nextHop(familyAddr(family), n.gateway)
	}
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

// familyAddr returns an address of a family.
func familyAddr(family int) netip.Addr {
	if family == unix.AF_INET6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// encapOf returns an encapsulation whose kind does not matter if n has one.
func encapOf(n nexthop) netlink.Encap {
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
		key.dst = netip.PrefixFrom(addrOf(r.Dst.IP), ones)
	}
	return key
}

// ids returns the numbers of the nexthop objects of those routes of a
// family of which the kernel tells no more.
func (k nexthops) ids(family int) (map[routeKey][]uint32, error) {
	type named struct {
		key routeKey
		id  uint32
	}
	all, err := whole(func() (all []named, err error) {
		req := k.request(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
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
	r, ok := parseRoute(m)
	if !ok || r.link != 0 || r.kind != unix.RTN_UNICAST {
		return key, 0, false
	}
	attrs, err := nl.ParseRouteAttr(m[unix.SizeofRtMsg:])
	if err != nil {
		return key, 0, false
	}
	for _, at := range attrs {
		switch at.Attr.Type {
		case unix.RTA_MULTIPATH:
			return key, 0, false
		case rtaNHID:
			id = number32(at.Value)
		}
	}
	return routeKey{table: r.table, metric: r.metric, tos: int(nl.DeserializeRtMsg(m).Tos), dst: r.dst}, id, id != 0
}

// list lists the nexthop objects by their numbers.
func (k nexthops) list() (map[uint32]nexthop, error) {
	messages, err := whole(func() ([][]byte, error) {
		req := k.request(unix.RTM_GETNEXTHOP, unix.NLM_F_DUMP)
		req.AddRawData(make([]byte, sizeofNHMsg))
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEXTHOP)
	})
	objects := make(map[uint32]nexthop, len(messages))
	for _, m := range messages {
		if id, n, ok := parseNexthop(m); ok {
			objects[id] = n
		}
	}
	return objects, err
}

// parseNexthop reads an RTM_NEWNEXTHOP message.
func parseNexthop(m []byte) (id uint32, n nexthop, ok bool) {
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
			n.members = []nexthopMember{}
			for ; len(v) >= sizeofNHGrp; v = v[sizeofNHGrp:] {
				// id, weight - 1, and since Linux 6.13 the upper byte of that
				n.members = append(n.members, nexthopMember{number32(v), int(v[4]) + int(v[5])<<8 + 1})
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
