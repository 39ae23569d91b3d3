package host

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

const (
	// maxSources bounds the route lookups for each link.
	maxSources = 16

	rtmFibMatch = 0x2000 // RTM_F_FIB_MATCH of linux/rtnetlink.h, Linux 4.13
)

// ordinaryUser is the user of whose packets lookups ask: neither root nor a service,
// and not the daemon's own, which the kernel would take otherwise.
const ordinaryUser = 1000

// unbound is the source of a program that does not bind its socket to an address.
var unbound netip.Addr

// route is an answer to RTM_GETROUTE.
type route struct {
	dst      netip.Prefix // only with RTM_F_FIB_MATCH
	kind     int          // rtm_type
	protocol int
	link     int
	gateway  bool // also one of the other family
	via      netip.Addr
	source   netip.Addr
	metric   int
	table    int // only with RTM_F_LOOKUP_TABLE
}

// globalIPv6 has a destination in each half of 2000::/3.
var globalIPv6 = []netip.Addr{
	netip.MustParseAddr("2a13:9c41:7d05:e8b2:61c4:8f37:d92e:5a06"), netip.MustParseAddr("3b57:1e8d:c260:94fa:7d13:2b86:e045:c971"),
}

// ask adds to o what only the kernel's own choice of a route tells: rules may
// lead to any table.
func (k lookups) ask(o *plan.Observed) {
	for _, l := range plan.LinksToAsk(*o, func(l plan.Link) bool { return l.Carrier && o.HasGlobalIPv6(l.Index) && !o.HasIPv6Default(l.Index) }) {
		if r, ok := k.ipv6Way(*o, l.Index); ok {
			o.Routes = append(o.Routes, r)
		}
	}
	for _, l := range plan.LinksToAsk(*o, func(l plan.Link) bool {
		return l.Carrier && (o.HasIPv6Default(l.Index) || o.HasIPv4Default(l.Index)) && plan.HasNativeSource(*o, l.Index)
	}) {
		o.Egress4 = append(o.Egress4, k.egress(*o, l.Index)...)
	}
	o.DefaultTables4 = k.defaultTables4(*o)
	for _, n := range k.onLink4() {
		if !slices.Contains(o.OnLink4, n) {
			o.OnLink4 = append(o.OnLink4, n)
		}
	}
}

// defaultTables4 lists the tables of [plan.Observed.DefaultTables4]. It asks the
// kernel only if a table other than main has an IPv4 default route or a part of one.
func (k lookups) defaultTables4(o plan.Observed) (tables []plan.DefaultTable) {
	if !slices.ContainsFunc(o.Routes, func(r plan.Route) bool { return !r.IPv6 && r.Table != plan.TableMain }) {
		return nil
	}
	for _, to := range plan.ProbesFor(o, func(plan.Route) bool { return true }) {
		r, ok := k.getRoute(to, 0, unbound, rtmFibMatch|unix.RTM_F_LOOKUP_TABLE)
		if ok && r.kind == unix.RTN_UNICAST && r.dst.Bits() < plan.MinNetwork &&
			!slices.ContainsFunc(tables, func(t plan.DefaultTable) bool { return t.Table == r.table }) {
			tables = append(tables, plan.DefaultTable{Table: r.table})
		}
	}
	rules, err := whole(func() ([]netlink.Rule, error) { return k.handle.RuleList(unix.AF_INET) })
	if err != nil {
		return tables
	}
	for i := range tables {
		tables[i].Rule = firstRule(rules, tables[i].Table)
	}
	return tables
}

// firstRule returns the priority of the first rule of others that leads ordinary
// packets to a table, or, if no rule seems to, any packets; 0 if there is none.
func firstRule(rules []netlink.Rule, table int) (priority int) {
	found, certain := false, false
	for _, r := range rules {
		if r.Table != table || r.Protocol == plan.Protocol {
			continue
		}
		ordinary := r.Src == nil && r.Mark == 0 && r.Sport == nil && r.Dport == nil && r.IPProto <= 0 &&
			r.Tos == 0 && r.IifName == "" && r.OifName == "" && !r.Invert &&
			(r.UIDRange == nil || r.UIDRange.Start <= ordinaryUser && ordinaryUser <= r.UIDRange.End)
		if !found || ordinary && !certain || ordinary == certain && r.Priority < priority {
			priority, found, certain = max(r.Priority, 0), true, certain || ordinary
		}
	}
	return priority
}

// egress asks with each source until all destinations of [plan.GlobalIPv4] are reached
// by one of them.
func (k lookups) egress(o plan.Observed, link int) (es []plan.Egress) {
	probes := plan.ProbesFor(o, func(r plan.Route) bool { return r.Link == link })
	for n, source := range k.sources(o, link, unix.AF_INET) {
		for _, to := range probes {
			// Asked for a link the kernel takes a destination without a route
			// for one on that link, unless it has to name the route.
			match, ok := k.getRoute(to, link, source, rtmFibMatch)
			if !ok || match.kind != unix.RTN_UNICAST {
				continue
			}
			r, ok := k.getRoute(to, link, source, 0)
			if !ok || r.link != link {
				continue
			}
			if !r.source.IsValid() {
				r.source = source // it is not told again
			}
			es = append(es, plan.Egress{Link: link, Flow: n, To: to, Source: r.source, Protocol: match.protocol})
		}
		if (plan.Observed{Links: o.Links, Addrs: o.Addrs, Egress4: es}).NativeIPv4(link) {
			break
		}
	}
	return es
}

// ipv6Way returns what is a default route in effect: both halves of 2000::/3
// leave by the link, from some table.
func (k lookups) ipv6Way(o plan.Observed, link int) (plan.Route, bool) {
	for _, source := range k.sources(o, link, unix.AF_INET6) {
		var way plan.Route
		found := 0
		for _, to := range globalIPv6 {
			r, ok := k.getRoute(to, link, source, 0)
			if !ok || r.kind != unix.RTN_UNICAST || r.link != link || r.protocol == plan.Protocol {
				break
			}
			way = plan.Route{IPv6: true, Link: link, Gateway: r.via, Metric: r.metric, Table: plan.TableMain, Protocol: r.protocol}
			found++
		}
		if found == len(globalIPv6) {
			return way, true
		}
	}
	return plan.Route{}, false
}

// onLink4 lists the on-link IPv4 networks that contain an address of
// 192.0.0.0/29. Those of half the Internet are default routes in parts.
func (k lookups) onLink4() (ns []plan.OnLink) {
	for a := plan.ServiceContinuityPrefix.Addr(); plan.ServiceContinuityPrefix.Contains(a); a = a.Next() {
		r, ok := k.getRoute(a, 0, unbound, rtmFibMatch)
		if !ok || r.kind != unix.RTN_UNICAST || r.gateway || r.dst.Bits() < plan.MinNetwork || r.protocol == plan.Protocol {
			continue
		}
		if n := (plan.OnLink{Link: r.link, Prefix: r.dst}); !slices.Contains(ns, n) {
			ns = append(ns, n)
		}
	}
	return ns
}

// sources lists what to ask with: unbound, and an address of the link for each rule
// of others that selects one by source. What only a rule for a mark, a user, a port, a
// protocol or an incoming interface leads to is there for those packets alone: other
// programs have no use of it.
func (k lookups) sources(o plan.Observed, link, family int) []netip.Addr {
	all := []netip.Addr{unbound}
	if family == unix.AF_INET && !k.reachesIPv4() {
		return all
	}
	var addrs []netip.Addr
	for _, a := range o.Addrs {
		ip := a.Prefix.Addr()
		native := family == unix.AF_INET && plan.UsableIPv4(ip)
		global := family == unix.AF_INET6 && ip.Is6() && ip.IsGlobalUnicast() && !a.Tentative && a.Protocol != plan.Protocol
		if a.Link == link && (native || global) {
			addrs = append(addrs, ip)
		}
	}
	rules, err := whole(func() ([]netlink.Rule, error) { return k.handle.RuleList(family) })
	if err != nil {
		return all
	}
	for _, r := range rules {
		if r.Invert || r.Protocol == plan.Protocol || r.Src == nil {
			continue
		}
		i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return r.Src.Contains(a.AsSlice()) })
		if i >= 0 && !slices.Contains(all, addrs[i]) {
			all = append(all, addrs[i])
		}
	}
	return all[:min(len(all), maxSources)]
}

// reachesIPv4 reports whether an ordinary program that is not bound to an address
// reaches global IPv4 destinations by routes of others, over any links. If not, the
// tables that rules select by source are of no use to it.
func (k lookups) reachesIPv4() bool {
	return !slices.ContainsFunc(plan.GlobalIPv4, func(to netip.Addr) bool {
		match, ok := k.getRoute(to, 0, unbound, rtmFibMatch)
		if !ok || match.kind != unix.RTN_UNICAST || match.protocol == plan.Protocol {
			return true
		}
		r, ok := k.getRoute(to, 0, unbound, 0)
		return !ok || !plan.UsableIPv4(r.source)
	})
}

// getRoute asks the kernel where a packet of an ordinary user would go, by one link
// only unless that is 0. It is an echo request: without a protocol the kernel would
// look for the route of UDP, which a rule may select. An error is an answer: the packet
// would go nowhere.
func (k lookups) getRoute(to netip.Addr, link int, source netip.Addr, flags uint32) (route, bool) {
	family, echo := uint8(unix.AF_INET), uint8(unix.IPPROTO_ICMP)
	if to.Is6() {
		family, echo = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	head := &nl.RtMsg{RtMsg: unix.RtMsg{Family: family, Dst_len: uint8(to.BitLen()), Flags: flags}}
	req := k.request(unix.RTM_GETROUTE, 0)
	req.AddData(head)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, to.AsSlice()))
	req.AddData(nl.NewRtAttr(unix.RTA_IP_PROTO, []byte{echo}))
	if source.IsValid() {
		head.Src_len = uint8(source.BitLen())
		req.AddData(nl.NewRtAttr(unix.RTA_SRC, source.AsSlice()))
	}
	number := func(attr int, n uint32) { req.AddData(nl.NewRtAttr(attr, nl.Uint32Attr(n))) }
	if link != 0 {
		number(unix.RTA_OIF, uint32(link))
	}
	number(unix.RTA_UID, ordinaryUser)
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if err != nil || len(msgs) == 0 {
		return route{}, false
	}
	return parseRoute(msgs[0])
}

func parseRoute(m []byte) (route, bool) {
	if len(m) < unix.SizeofRtMsg {
		return route{}, false
	}
	head := nl.DeserializeRtMsg(m)
	attrs, err := nl.ParseRouteAttr(m[unix.SizeofRtMsg:])
	if err != nil {
		return route{}, false
	}
	r := route{kind: int(head.Type), protocol: int(head.Protocol), table: int(head.Table)}
	dst := netip.IPv4Unspecified()
	if head.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for _, at := range attrs {
		v := at.Value
		switch at.Attr.Type {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(v)
		case unix.RTA_OIF:
			if len(v) >= 4 {
				r.link = int(binary.NativeEndian.Uint32(v))
			}
		case unix.RTA_PRIORITY:
			if len(v) >= 4 {
				r.metric = int(binary.NativeEndian.Uint32(v))
			}
		case unix.RTA_TABLE: // head.Table has 8 bits
			if len(v) >= 4 {
				r.table = int(binary.NativeEndian.Uint32(v))
			}
		case unix.RTA_PREFSRC:
			r.source, _ = netip.AddrFromSlice(v)
		case unix.RTA_GATEWAY:
			r.gateway = true
			r.via, _ = netip.AddrFromSlice(v)
		case unix.RTA_VIA, unix.RTA_MULTIPATH:
			r.gateway = true
		}
	}
	r.dst = netip.PrefixFrom(dst, int(head.Dst_len))
	return r, r.dst.IsValid()
}
