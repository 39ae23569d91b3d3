package plan

import (
	"cmp"
	"net/netip"
	"slices"
)

// TableRoute is an IPv4 route of a CLAT besides the default route in [CLAT.Table].
type TableRoute struct {
	Table  int
	Part   netip.Prefix // see [IsPart]; invalid: it is a default route
	Metric int
}

// defaultTable returns the table of the CLATs' default routes. It is main, unless
// main has no default route of others and native IPv4 has one in a table behind it,
// which a route of ours in main would hide.
func defaultTable(o Observed, c Config) int {
	behind := slices.DeleteFunc(slices.Clone(o.DefaultTables4), func(t DefaultTable) bool { return !t.BehindMain })
	slices.SortFunc(behind, func(a, b DefaultTable) int { return cmp.Compare(a.Rule, b.Rule) })
	if native, useless := defaultsIn(o, TableMain, netip.Prefix{}, c.Enable == Auto); len(native)+len(useless) > 0 {
		return TableMain
	}
	for _, t := range behind {
		if hasNativeIn(o, t.Table, c.Enable == Auto) {
			return t.Table
		}
		if _, useless := defaultsIn(o, t.Table, netip.Prefix{}, false); len(useless) > 0 {
			break // the kernel would look no further
		}
	}
	return TableMain
}

// tableRoutes returns where the nth of several CLATs needs an IPv4 route besides
// the default route in [CLAT.Table]: wherever the kernel would choose a route by
// which nothing is reached. In the main table these are routes to a part of IPv4;
// in tables that a rule selects before main for every program, default routes too.
func (p *planner) tableRoutes(n int) (rs []TableRoute) {
	for _, r := range p.o.Routes {
		t := TableRoute{Table: r.Table, Part: r.Part}
		isDefault := t.Table == p.table && !t.Part.IsValid()
		if r.IPv6 || isDefault || !p.o.isDefaultTable(t.Table) || slices.ContainsFunc(rs, func(o TableRoute) bool { return o.Table == t.Table && o.Part == t.Part }) {
			continue
		}
		native, useless := defaultsIn(p.o, t.Table, t.Part, p.c.Enable == Auto)
		if len(useless) == 0 {
			continue
		}
		if metric, first := metricAmong(native, useless, p.c.Metric, max(p.uplinks, 1)); first {
			t.Metric = metric + n
			rs = append(rs, t)
		}
	}
	slices.SortFunc(rs, func(a, b TableRoute) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), a.Part.Compare(b.Part))
	})
	return rs
}
