package plan

import "math"

// MaxMetric is the largest metric of an IPv4 route.
const MaxMetric = math.MaxUint32

// firstMetric returns the metric of the first of n CLATs: at least the
// configured one, worse than that of every native IPv4 default route, and better
// than that of a default route by which nothing is reached (link-local source,
// no address, no carrier), which the kernel would choose before ours. Where such
// a route has metric 0 ours has it too and is put before it. The route of another
// program's CLAT that works counts as native, unless c asks for a CLAT beside it.
func firstMetric(o Observed, c Config, n int) int {
	n = max(n, 1)
	native, useless := mainDefaults(o, c.Enable == Auto)
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
	metric := min(max(c.Metric, worst+1), MaxMetric-n+1)
	if metric+n <= obstacle {
		return metric
	}
	if before := max(obstacle-n, 0); before > better {
		return before
	}
	return metric // the kernel chooses the native route in any case
}

// worstNative returns the largest metric of a native IPv4 default route of the
// host, or -1. Those of VPNs are not native, and go before ours or not as they
// please.
func worstNative(o Observed) int {
	worst := -1
	native, _ := mainDefaults(o, false)
	for _, m := range native {
		worst = max(worst, m)
	}
	return worst
}

// mainDefaults returns the metrics of the IPv4 default routes of the main table
// that are neither ours nor a VPN's: those of native IPv4, and those by which
// nothing is reached. The TUN of another program's CLAT is no VPN's. One that works
// counts as native if foreignCLATs is set.
func mainDefaults(o Observed, foreignCLATs bool) (native, useless []int) {
	for _, r := range o.Routes {
		l, ok := o.LinkByIndex(r.Link)
		switch {
		case !ok || r.IPv6 || r.Table != TableMain || r.Protocol == Protocol || o.IsOurs(l) || overlays[l.Kind] && !deadCLAT(o, l) && !aliveCLAT(o, l):
		case !r.LinkDown && (o.NativeIPv4(r.Link) || foreignCLATs && aliveCLAT(o, l)):
			native = append(native, r.Metric)
		default:
			useless = append(useless, r.Metric)
		}
	}
	return native, useless
}
