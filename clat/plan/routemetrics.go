package plan

// RouteMetrics are the metrics of a route without its MTU.
type RouteMetrics struct {
	// Numbers has them by their numbers (RTAX_* of linux/rtnetlink.h); 0: not set.
	Numbers [18]uint32
	MTULock bool // path MTU discovery does not lower the MTU
	RTOLock bool // the minimum of the retransmission timeout (RTAX_RTO_MIN) is locked
	// CongestionControl is TCP's algorithm (RTAX_CC_ALGO); may be empty.
	CongestionControl string
}
