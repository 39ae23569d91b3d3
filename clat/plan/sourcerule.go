package plan

import (
	"net/netip"
	"slices"
)

// SourceRule keeps packets from a CLAT with that CLAT, whatever other tables say:
// they look into Table first, where they find the CLAT's default route or, while
// there is none, that nothing can be reached.
type SourceRule struct {
	Source   netip.Addr
	Table    int
	Priority int
}

// SourceRuleFor gives every CLAT a table of its own: 64 and the last digit of its
// address, or 72 if that is not of 192.0.0.0/29. IPv6 has other tables.
func SourceRuleFor(a netip.Addr, priority int) SourceRule {
	table := Protocol + 8
	if ServiceContinuityPrefix.Contains(a) {
		table = Protocol + int(a.As4()[3]&7)
	}
	return SourceRule{a, table, priority}
}

// SameFlows reports whether r and o are rules for the same packets, whatever their
// priority.
func (r SourceRule) SameFlows(o SourceRule) bool { return r.Source == o.Source && r.Table == o.Table }

// Route returns the CLAT's default route in its own table, made from the one for
// all sources. The metric matters only beside "unreachable", which has the worst.
func (r SourceRule) Route(other Route) Route {
	other.Table, other.Metric = r.Table, Protocol
	return other
}

// SourceRules says whether the CLATs need source rules, and with what priority.
type SourceRules struct {
	Wanted   bool
	Priority int
}

// beforeMain is the usual priority of source rules: right before the main table,
// and after what a VPN has put there.
const beforeMain = 32765

// sourceRules returns whether the best IPv4 default route may not be that of every
// CLAT: with two CLATs, or beside native IPv4. A flow must stay with the CLAT it
// began with. Where a rule leads every program to a default route in another table,
// the source rules come before that.
func sourceRules(o Observed, desired []Desired) SourceRules {
	n := 0
	for _, d := range desired {
		if d.CLAT != nil || d.Hold {
			n++
		}
	}
	rules := SourceRules{Priority: beforeMain}
	for _, t := range o.DefaultTables4 {
		if t.Table != TableMain && t.Rule > 0 && t.Rule <= rules.Priority && leadsBeside(o, t.Table) {
			rules.Priority = t.Rule - 1
		}
	}
	rules.Wanted = n > 1 || n == 1 && hasNative(o)
	return rules
}

// leadsBeside reports whether a table has an IPv4 default route, or a part of one,
// that is neither ours nor a VPN's.
func leadsBeside(o Observed, table int) bool {
	return slices.ContainsFunc(o.Routes, func(r Route) bool {
		native, useless := defaultsIn(o, table, r.Part, false)
		return r.Table == table && len(native)+len(useless) > 0
	})
}
