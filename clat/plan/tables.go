package plan

// TableRoute is an IPv4 default route of a CLAT in a table other than main.
type TableRoute struct {
	Table  int
	Metric int
}

// tableRoutes returns where the nth of several CLATs needs an IPv4 default route
// besides that in the main table: in the tables that a rule selects before main for
// every program, and in which the kernel would choose a route by which nothing is
// reached.
func (p *planner) tableRoutes(n int) (rs []TableRoute) {
	for _, table := range p.o.DefaultTables4 {
		if table == TableMain {
			continue
		}
		native, useless := defaultsIn(p.o, table, p.c.Enable == Auto)
		if len(useless) == 0 {
			continue
		}
		if metric, first := metricAmong(native, useless, p.c.Metric, max(p.uplinks, 1)); first {
			rs = append(rs, TableRoute{Table: table, Metric: metric + n})
		}
	}
	return rs
}
