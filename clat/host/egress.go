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
	// maxFlows bounds the route lookups for each link.
	maxFlows = 16

	rtmFibMatch = 0x2000 // RTM_F_FIB_MATCH of linux/rtnetlink.h, Linux 4.13
)

// flow is what a rule may select by, beside the link. The zero flow is that of a
// program which does nothing special.
type flow struct {
	source    netip.Addr
	mark, uid uint32
	hasUID    bool
	protocol  uint8
	tos       uint8
	sport     uint16
	dport     uint16
}

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
	add := func(r route) {
		if !slices.ContainsFunc(tables, func(t plan.DefaultTable) bool { return t.Table == r.table }) {
			tables = append(tables, plan.DefaultTable{Table: r.table})
		}
	}
	var hidden []netip.Addr // what a default route of ours in main leads to
	for _, to := range plan.ProbesFor(o, func(plan.Route) bool { return true }) {
		r, ok := k.defaultFor(to, 0)
		if !ok {
			continue
		}
		add(r)
		if r.protocol == plan.Protocol && r.table == plan.TableMain && r.dst.Bits() == 0 {
			hidden = append(hidden, to)
		}
	}
	rules, err := whole(func() ([]netlink.Rule, error) { return k.handle.RuleList(unix.AF_INET) })
	if err != nil {
		return tables
	}
	main, _ := firstRule(slices.DeleteFunc(slices.Clone(rules), func(r netlink.Rule) bool { return r.SuppressPrefixlen == 0 }), plan.TableMain)
	for _, r := range k.behindOurs(o, hidden) {
		if priority, ordinary := firstRule(rules, r.table); ordinary && priority > main {
			add(r)
		}
	}
	for i, t := range tables {
		priority, ordinary := firstRule(rules, t.Table)
		tables[i].Rule, tables[i].BehindMain = priority, ordinary && priority > main
	}
	return tables
}

// defaultFor returns the IPv4 default route, or the part of one, that the kernel
// chooses for ordinary packets, by one link only unless that is 0.
func (k lookups) defaultFor(to netip.Addr, link int) (route, bool) {
	r, ok := k.getRoute(to, link, flow{}, rtmFibMatch|unix.RTM_F_LOOKUP_TABLE)
	return r, ok && r.kind == unix.RTN_UNICAST && r.dst.Bits() < plan.MinNetwork
}

// behindOurs returns the IPv4 default routes of other tables that a default route of
// ours in main may hide. If main has another one, that would hide them too. The
// kernel cannot leave out our route, but does not choose it for another link.
func (k lookups) behindOurs(o plan.Observed, hidden []netip.Addr) (rs []route) {
	if slices.ContainsFunc(o.Routes, func(r plan.Route) bool {
		return !r.IPv6 && r.Table == plan.TableMain && !r.Part.IsValid() && r.Protocol != plan.Protocol
	}) {
		return nil
	}
	elsewhere := func(l plan.Link) bool {
		return slices.ContainsFunc(o.Routes, func(r plan.Route) bool {
			return !r.IPv6 && r.Link == l.Index && r.Table != plan.TableMain && r.Protocol != plan.Protocol
		})
	}
	for _, l := range plan.LinksToAsk(o, elsewhere) {
		for _, to := range hidden {
			if r, ok := k.defaultFor(to, l.Index); ok && r.table != plan.TableMain {
				rs = append(rs, r)
			}
		}
	}
	return rs
}

// firstRule returns the priority of the first rule of others that leads ordinary
// packets to a table, or, if no rule seems to, any packets; 0 if there is none.
// ordinary says which.
func firstRule(rules []netlink.Rule, table int) (priority int, ordinary bool) {
	found := false
	for _, r := range rules {
		if r.Table != table || r.Protocol == plan.Protocol {
			continue
		}
		all := r.Src == nil && r.Mark == 0 && r.UIDRange == nil && r.Sport == nil && r.Dport == nil && r.IPProto <= 0 &&
			r.Tos == 0 && r.Dst == nil && r.IifName == "" && r.OifName == "" && !r.Invert
		if !found || all && !ordinary || all == ordinary && r.Priority < priority {
			priority, found, ordinary = max(r.Priority, 0), true, ordinary || all
		}
	}
	return priority, ordinary
}

// egress asks for each flow until all destinations of [plan.GlobalIPv4] are reached
// by one of them.
func (k lookups) egress(o plan.Observed, link int) (es []plan.Egress) {
	probes := plan.ProbesFor(o, func(r plan.Route) bool { return r.Link == link })
	for n, f := range k.flowsTo(o, link, unix.AF_INET) {
		for _, to := range probes {
			// Asked for a link the kernel takes a destination without a route
			// for one on that link, unless it has to name the route.
			match, ok := k.getRoute(to, link, f, rtmFibMatch)
			if !ok || match.kind != unix.RTN_UNICAST {
				continue
			}
			r, ok := k.getRoute(to, link, f, 0)
			if !ok || r.link != link {
				continue
			}
			if !r.source.IsValid() {
				r.source = f.source // it is not told again
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
	for _, f := range k.flowsTo(o, link, unix.AF_INET6) {
		var way plan.Route
		found := 0
		for _, to := range globalIPv6 {
			r, ok := k.getRoute(to, link, f, 0)
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
		r, ok := k.getRoute(a, 0, flow{}, rtmFibMatch)
		if !ok || r.kind != unix.RTN_UNICAST || r.gateway || r.dst.Bits() < plan.MinNetwork || r.protocol == plan.Protocol {
			continue
		}
		if n := (plan.OnLink{Link: r.link, Prefix: r.dst}); !slices.Contains(ns, n) {
			ns = append(ns, n)
		}
	}
	return ns
}

// flowsTo lists what to ask with: nothing special, and what the rules of others
// select by; of sources only addresses of the link.
func (k lookups) flowsTo(o plan.Observed, link, family int) []flow {
	fs := []flow{{}}
	var sources []netip.Addr
	for _, a := range o.Addrs {
		ip := a.Prefix.Addr()
		native := family == unix.AF_INET && plan.UsableIPv4(ip)
		global := family == unix.AF_INET6 && ip.Is6() && ip.IsGlobalUnicast() && !a.Tentative && a.Protocol != plan.Protocol
		if a.Link == link && (native || global) {
			sources = append(sources, ip)
		}
	}
	rules, err := whole(func() ([]netlink.Rule, error) { return k.handle.RuleList(family) })
	if err != nil {
		return fs
	}
	for _, r := range rules {
		f := flow{mark: r.Mark, tos: uint8(r.Tos), protocol: uint8(max(r.IPProto, 0))}
		if r.UIDRange != nil {
			f.uid, f.hasUID = r.UIDRange.Start, true
		}
		if r.Sport != nil {
			f.sport = r.Sport.Start
		}
		if r.Dport != nil {
			f.dport = r.Dport.Start
		}
		if r.Invert || r.Protocol == plan.Protocol {
			continue
		}
		if r.Src != nil {
			i := slices.IndexFunc(sources, func(a netip.Addr) bool { return r.Src.Contains(a.AsSlice()) })
			if i < 0 {
				continue
			}
			f.source = sources[i]
		}
		if !slices.Contains(fs, f) {
			fs = append(fs, f)
		}
	}
	return fs[:min(len(fs), maxFlows)]
}

// getRoute asks the kernel where a packet would go, by one link only unless that
// is 0. An error is an answer: it would go nowhere.
func (k lookups) getRoute(to netip.Addr, link int, f flow, flags uint32) (route, bool) {
	family := uint8(unix.AF_INET)
	if to.Is6() {
		family = unix.AF_INET6
	}
	head := &nl.RtMsg{RtMsg: unix.RtMsg{Family: family, Dst_len: uint8(to.BitLen()), Tos: f.tos, Flags: flags}}
	req := k.request(unix.RTM_GETROUTE, 0)
	req.AddData(head)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, to.AsSlice()))
	if f.source.IsValid() {
		head.Src_len = uint8(f.source.BitLen())
		req.AddData(nl.NewRtAttr(unix.RTA_SRC, f.source.AsSlice()))
	}
	number := func(attr int, n uint32) { req.AddData(nl.NewRtAttr(attr, nl.Uint32Attr(n))) }
	if link != 0 {
		number(unix.RTA_OIF, uint32(link))
	}
	if f.mark != 0 {
		number(unix.RTA_MARK, f.mark)
	}
	if f.hasUID {
		number(unix.RTA_UID, f.uid)
	}
	port := func(attr int, n uint16) {
		if n != 0 {
			req.AddData(nl.NewRtAttr(attr, binary.BigEndian.AppendUint16(nil, n)))
		}
	}
	if f.protocol == 0 && (f.sport != 0 || f.dport != 0) {
		f.protocol = unix.IPPROTO_UDP
	}
	if f.protocol != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_IP_PROTO, []byte{f.protocol}))
	}
	port(unix.RTA_SPORT, f.sport)
	port(unix.RTA_DPORT, f.dport)
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
