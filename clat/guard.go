package clat

import "math"

// guard lists the links with a default route of either family that lead to a
// network. A VPN's tunnel is none: what it carries is its own affair, and does
// not leave the host as it is. Nor is one that has another CLAT, whose packets
// look the same until its programs have seen them.
func (o Observed) guard(desired []Desired) []Uplink {
	if !anyCLAT(desired) {
		return nil
	}
	var us []Uplink
	for _, l := range o.Links {
		if l.mayBeUplink() && !o.isOurs(l) && !o.hasOtherCLAT(l) && (o.hasIPv6Default(l.Index) || o.nativeIPv4(l.Index)) {
			us = append(us, Uplink{l.Name, l.Index})
		}
	}
	return us
}

func anyCLAT(desired []Desired) bool {
	for _, d := range desired {
		if d.CLAT != nil || d.Hold {
			return true
		}
	}
	return false
}

// needSourceRules reports whether the best IPv4 default route may not be that
// of every CLAT: with two CLATs, or beside native IPv4. A flow must stay with
// the CLAT it began with.
func (o Observed) needSourceRules(desired []Desired) bool {
	n := 0
	for _, d := range desired {
		if d.CLAT != nil || d.Hold {
			n++
		}
	}
	return n > 1 || n == 1 && o.worstNative() >= 0
}

// maxMetric is the largest metric of an IPv4 route.
const maxMetric = math.MaxUint32

// firstMetric returns the metric of the first of n CLATs: at least the
// configured one, and worse than that of every native IPv4 default route
// (standards.md C-33).
func (o Observed) firstMetric(c Config, n int) int {
	return min(max(c.Metric, o.worstNative()+1), maxMetric-max(n-1, 0))
}

// worstNative returns the largest metric of a native IPv4 default route of the
// host, or -1. Those of VPNs are not native, and go before ours or not as they
// please.
func (o Observed) worstNative() int {
	worst := -1
	for _, r := range o.Routes {
		if l, ok := o.linkByIndex(r.Link); ok && !r.IPv6 && r.Table == TableMain && !o.isOurs(l) && !overlays[l.Kind] {
			worst = max(worst, r.Metric)
		}
	}
	return worst
}
