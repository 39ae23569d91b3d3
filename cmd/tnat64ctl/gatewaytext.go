package main

import (
	"fmt"
	"strings"

	"tnat64d/internal/control"
)

// conntrackText adds what status says about the kernel's connection tracking.
func conntrackText(t *statusLines, c *control.Conntrack) {
	if c == nil {
		return
	}
	use := fmt.Sprintf("%d entries, no limit", c.Entries)
	if c.Max > 0 {
		use = fmt.Sprintf("%d of %d entries", c.Entries, c.Max)
	}
	rows := []string{use}
	if c.NearlyFull() {
		rows = append(rows, "conntrack-nearly-full: raise net.netfilter.nf_conntrack_max, or lower connections-per-64")
	}
	if c.Dropped > 0 || c.EarlyDropped > 0 {
		rows = append(rows, fmt.Sprintf("the kernel has dropped %d packets whose connection it could not track, and evicted %d connections from the full table", c.Dropped, c.EarlyDropped))
	}
	t.row("conntrack", rows...)
}

// dns64Text adds what status says about DNS64.
func dns64Text(t *statusLines, d *control.DNS64) {
	if d == nil {
		return
	}
	var at []string
	for _, l := range d.Listen {
		at = append(at, l.String())
	}
	t.line("")
	t.line("DNS64 on %s", strings.Join(at, ", "))
	var queries []string
	for _, q := range d.Queries {
		queries = append(queries, fmt.Sprintf("%d %s", q.Queries, q.Outcome))
	}
	t.row("queries", either(strings.Join(queries, ", "), "none yet"))
	t.row("cache", fmt.Sprintf("%d responses", d.Cached))
}

// advertiseText adds what status says about router advertisements.
func advertiseText(t *statusLines, links []control.Advertising) {
	for _, a := range links {
		t.line("")
		t.line("router advertisements on %s", a.Interface)
		t.row("sent", fmt.Sprintf("%d, and %d solicitations came", a.Sent, a.Solicitations))
		if a.Failed > 0 {
			t.row("failed", fmt.Sprintf("%d could not be sent; the log says why", a.Failed))
		}
		if a.Others > 0 {
			t.row("other routers", fmt.Sprintf("%d advertisements, %d of them contradict ours; the log says in what", a.Others, a.Disagreements))
		}
	}
}
