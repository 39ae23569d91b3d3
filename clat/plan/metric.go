package plan

import (
	"math"
	"net/netip"
	"slices"
)

// MaxMetric is the largest metric of an IPv4 route.
const MaxMetric = math.MaxUint32

// firstMetric returns the metric of the first of n CLATs in a table.
func firstMetric(o Observed, c Config, table, n int) int {
	native, useless := defaultsIn(o, table, netip.Prefix{}, c.Enable == Auto)
	metric, _ := metricAmong(native, useless, c.Metric, max(n, 1))
	return metric
}

// metricAmong returns the metric of the first of n routes of ours in a table: at
// least preferred, worse than the metric of every native IPv4 default route, and
// better than that of every useless one, by which nothing is reached (link-local
// source, no address, no carrier) and which the kernel would choose before ours.
// Where a useless route has metric 0 ours has it too and is put before it. first
// reports whether ours goes before every useless route.
func metricAmong(native, useless []int, preferred, n int) (metric int, first bool) {
	obstacle := MaxMetric + 1
	for _, m := range useless {
		obstacle = min(obstacle, m)
	}
	worst, better := -1, -1 // of all native ones, and of those before the obstacle
	for _, m := range native {
		worst = max(worst, m)
		if m < obstacle {
			better = max(better, m)
		}
	}
	if better < 0 && worst >= 0 {
		worst = -1 // the obstacle goes before every native route: they are of no use either
	}
	metric = min(max(preferred, worst+1), MaxMetric-n+1)
	if metric+n <= obstacle {
		return metric, true
	}
	if before := max(obstacle-n, 0); before > better {
		return before, true
	}
	return metric, false // the kernel chooses the native route in any case
}

// hasNative reports whether the host has a native IPv4 default route, or a part of
// one, that ordinary packets may take. Those of VPNs are not native, and go before
// ours or not as they please.
func hasNative(o Observed) bool {
	return slices.ContainsFunc(o.Routes, func(r Route) bool { return o.isDefaultTable(r.Table) && hasNativeIn(o, r.Table, false) })
}

// hasNativeIn reports whether a table has a native IPv4 default route, or a part of
// one. For foreignCLATs see [defaultsIn].
func hasNativeIn(o Observed, table int, foreignCLATs bool) bool {
	return slices.ContainsFunc(o.Routes, func(r Route) bool {
		if r.Table != table {
			return false
		}
		native, _ := defaultsIn(o, table, r.Part, foreignCLATs)
		return len(native) > 0
	})
}

// defaultsIn returns the metrics of the IPv4 default routes of a table, or of the
// routes to a part of IPv4 if part is valid, that are neither ours nor a VPN's:
// those of native IPv4, and the useless ones, by which nothing is reached. The TUN
// of another program's CLAT is not a VPN's. The route of one that works counts as
// native if foreignCLATs is set.
func defaultsIn(o Observed, table int, part netip.Prefix, foreignCLATs bool) (native, useless []int) {
	for _, r := range o.Routes {
		l, ok := o.LinkByIndex(r.Link)
		switch {
		case !ok || r.IPv6 || r.Table != table || r.Part != part || r.Protocol == Protocol || o.IsOurs(l) || overlays[l.Kind] && !deadCLAT(o, l) && !aliveCLAT(o, l):
		case o.native(r) || !r.LinkDown && foreignCLATs && aliveCLAT(o, l):
			native = append(native, r.Metric)
		default:
			useless = append(useless, r.Metric)
		}
	}
	return native, useless
}
