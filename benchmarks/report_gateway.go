package main

import (
	"fmt"
	"math"
	"slices"
)

// gatewaySection has the contestants on the router.
func gatewaySection(r *results, w *markdown) {
	routers := slices.DeleteFunc(slices.Clone(r.Loads), func(l load) bool { return !l.Router })
	var loads, grown []load
	for _, l := range routers {
		if l.Series == maps {
			grown = append(grown, l)
		} else {
			loads = append(loads, l)
		}
	}
	if len(routers) == 0 {
		return
	}
	w.text(`
## A gateway for a whole network

The laptop is an IPv6-only host, and the contestant runs on the router. What arrives per second, as a share of IPv6 that the same
router forwards in the same round, and in parentheses CPU seconds of the whole machine per amount.

`)
	share := func(_ load, s summary) string {
		if math.IsNaN(float64(s.Ratio)) {
			return "–"
		}
		return fmt.Sprintf("%s (%s s)", value(float64(s.Ratio)), value(float64(s.Machine)))
	}
	lead := func(l load) []string {
		text := "–"
		if s, ok := r.summary(l.ID, r.Contestants[0].ID); ok {
			text = fmt.Sprintf("%s %s (%s s)", value(float64(s.Value)/l.Unit.Scale), l.Unit.Name, value(float64(s.Machine)))
		}
		return []string{l.Title, l.Unit.Cost, text}
	}
	head := []string{"load", "per", "IPv6 forwarded"}
	if len(loads) > 0 {
		r.table(w, loads, true, head, lead, share)
		w.text("\nMemory of the translator's process at the end of the load, in MB:\n\n")
		r.table(w, loads, true, []string{"load"}, title, residentMB)
	}
	if len(grown) > 0 {
		w.text("\nThe same with maps of hosts that are silent:\n\n")
		r.table(w, grown, true, head, lead, share)
		w.text("\nMemory of the process with so many maps, in MB. The BPF maps of the kernel engine are not in it.\n\n")
		r.table(w, grown, true, []string{"load"}, title, residentMB)
	}
}

// residentMB is the cell of a table of memory.
func residentMB(_ load, s summary) string {
	if s.RSS == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f", s.RSS/1e6)
}
