package nexthop

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Extra is what the kernel reports of a unicast route and netlink.Route does not have.
type Extra struct {
	Object uint32 // number of the nexthop object of the route; 0 for a route without one
	// Special is set if the route has an attribute that would be lost if it were made
	// anew of its netlink.Route: an encapsulation of any kind, a source prefix (`from`),
	// a lifetime, a preference (RFC 4191), a realm of a next hop, or a locked metric
	// other than MTU or the minimum of the retransmission timeout alone.
	Special bool
}

// offsetExpires is that of rta_expires in struct rta_cacheinfo of linux/rtnetlink.h.
const offsetExpires = 8

// parseExtra reads the key of a unicast route and its Extra from an RTM_NEWROUTE message.
func parseExtra(m []byte) (key routeKey, extra Extra, ok bool) {
	if len(m) < unix.SizeofRtMsg {
		return key, extra, false
	}
	head := nl.DeserializeRtMsg(m)
	attrs, err := nl.ParseRouteAttr(m[unix.SizeofRtMsg:])
	if err != nil || head.Type != unix.RTN_UNICAST {
		return key, extra, false
	}
	dst := netip.IPv4Unspecified()
	if head.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	key = routeKey{table: int(head.Table), tos: int(head.Tos)}
	extra.Special = head.Src_len != 0
	for _, at := range attrs {
		switch v := at.Value; at.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.RTA_DST:
			dst = addressOf(v)
		case unix.RTA_TABLE: // head.Table has 8 bits
			key.table = int(number32(v))
		case unix.RTA_PRIORITY:
			key.metric = int(number32(v))
		case rtaNHID:
			extra.Object = number32(v)
		case unix.RTA_SRC, unix.RTA_ENCAP_TYPE, unix.RTA_EXPIRES:
			extra.Special = true
		case unix.RTA_PREF: // 0 is medium
			extra.Special = extra.Special || len(v) > 0 && v[0] != 0
		case unix.RTA_CACHEINFO:
			extra.Special = extra.Special || len(v) >= offsetExpires+4 && number32(v[offsetExpires:]) != 0
		case unix.RTA_METRICS:
			extra.Special = extra.Special || specialMetrics(v)
		case unix.RTA_MULTIPATH:
			extra.Special = extra.Special || specialHops(v)
		}
	}
	key.dst = netip.PrefixFrom(dst, int(head.Dst_len))
	return key, extra, true
}

// specialMetrics reports whether netlink.Route does not have all of an RTA_METRICS
// attribute.
func specialMetrics(b []byte) bool {
	metrics, err := nl.ParseRouteAttr(b)
	if err != nil {
		return true
	}
	for _, m := range metrics {
		if m.Attr.Type >= NumMetrics {
			return true
		}
		if locks := number32(m.Value); m.Attr.Type == unix.RTAX_LOCK && locks != 1<<unix.RTAX_MTU && locks != 1<<unix.RTAX_RTO_MIN {
			return true
		}
	}
	return false
}

// specialHops reports whether a next hop of an RTA_MULTIPATH attribute has an
// encapsulation or a realm.
func specialHops(b []byte) bool {
	for len(b) >= unix.SizeofRtNexthop {
		n := int(binary.NativeEndian.Uint16(b)) // rtnh_len
		if n < unix.SizeofRtNexthop || n > len(b) {
			return true
		}
		attrs, err := nl.ParseRouteAttr(b[unix.SizeofRtNexthop:n])
		if err != nil {
			return true
		}
		for _, at := range attrs {
			if at.Attr.Type == unix.RTA_ENCAP_TYPE || at.Attr.Type == unix.RTA_FLOW {
				return true
			}
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return false
}
