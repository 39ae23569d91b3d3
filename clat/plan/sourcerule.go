package plan

import "net/netip"

// SourceRule keeps packets from a CLAT with that CLAT, whatever the main table
// says: they look into Table first, where they find the CLAT's default route
// or, while there is none, that nothing can be reached.
type SourceRule struct {
	Source netip.Addr
	Table  int
}

// sourceRule gives every CLAT a table of its own: 64 and the last digit of its
// address, or 72 if that is not of 192.0.0.0/29. IPv6 has other tables.
func SourceRuleFor(a netip.Addr) SourceRule {
	if !ServiceContinuityPrefix.Contains(a) {
		return SourceRule{a, Protocol + 8}
	}
	return SourceRule{a, Protocol + int(a.As4()[3]&7)}
}

// Route returns the CLAT's default route in its own table, made from that of the
// main table. The metric matters only beside "unreachable", which has the worst.
func (r SourceRule) Route(main Route) Route {
	main.Table, main.Metric = r.Table, Protocol
	return main
}
