package nexthop

import (
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// NumMetrics is one more than the greatest number of a route metric (RTAX_* of
// linux/rtnetlink.h) that netlink.Route has.
const NumMetrics = unix.RTAX_FASTOPEN_NO_COOKIE + 1

// Metrics returns the metrics of r by their numbers (RTAX_*), to read or to set them.
// RTAX_LOCK and RTAX_CC_ALGO, which are no plain numbers, are nil.
func Metrics(r *netlink.Route) [NumMetrics]*int {
	return [NumMetrics]*int{
		unix.RTAX_MTU:                &r.MTU,
		unix.RTAX_WINDOW:             &r.Window,
		unix.RTAX_RTT:                &r.Rtt,
		unix.RTAX_RTTVAR:             &r.RttVar,
		unix.RTAX_SSTHRESH:           &r.Ssthresh,
		unix.RTAX_CWND:               &r.Cwnd,
		unix.RTAX_ADVMSS:             &r.AdvMSS,
		unix.RTAX_REORDERING:         &r.Reordering,
		unix.RTAX_HOPLIMIT:           &r.Hoplimit,
		unix.RTAX_INITCWND:           &r.InitCwnd,
		unix.RTAX_FEATURES:           &r.Features,
		unix.RTAX_RTO_MIN:            &r.RtoMin,
		unix.RTAX_INITRWND:           &r.InitRwnd,
		unix.RTAX_QUICKACK:           &r.QuickACK,
		unix.RTAX_FASTOPEN_NO_COOKIE: &r.FastOpenNoCookie,
	}
}

// metricsAttr returns the RTA_METRICS attribute of r, or nil if it has no metrics.
func metricsAttr(r *netlink.Route) *nl.RtAttr {
	attr, locks, n := nl.NewRtAttr(unix.RTA_METRICS, nil), uint32(0), 0
	if r.MTULock {
		locks |= 1 << unix.RTAX_MTU
	}
	if r.RtoMinLock {
		locks |= 1 << unix.RTAX_RTO_MIN
	}
	add := func(number int, value []byte) {
		attr.AddRtAttr(number, value)
		n++
	}
	for number, value := range Metrics(r) {
		if value != nil && *value > 0 {
			add(number, nl.Uint32Attr(uint32(*value)))
		}
	}
	if locks != 0 {
		add(unix.RTAX_LOCK, nl.Uint32Attr(locks))
	}
	if r.Congctl != "" {
		add(unix.RTAX_CC_ALGO, nl.ZeroTerminated(r.Congctl))
	}
	if n == 0 {
		return nil
	}
	return attr
}
