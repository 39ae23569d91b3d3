package plan

import (
	"cmp"
	"net/netip"
	"slices"
)

// TableRoute is an IPv4 route of a CLAT besides its default route in the main table.
type TableRoute struct {
	Table  int
	Part   netip.Prefix // see [IsPart]; invalid: it is a default route
	Metric int
}

// tableRoutes returns where the nth of several CLATs needs an IPv4 route besides
// the default route in the main table: wherever the kernel would choose a route by
// which nothing is reached. In the main table these are routes to a part of IPv4;
// in tables that a rule selects before main for every program, default routes too.
func (p *planner) tableRoutes(n int) (rs []TableRoute) {
	for _, r := range p.o.Routes {
		t := TableRoute{Table: r.Table, Part: r.Part}
		isMain := t.Table == TableMain && !t.Part.IsValid()
		if r.IPv6 || isMain || !p.o.isDefaultTable(t.Table) || slices.ContainsFunc(rs, func(o TableRoute) bool { return o.Table == t.Table && o.Part == t.Part }) {
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
