package main

import (
	"slices"
	"strings"

	"tnat64d/clat/plan"
)

// missingUplinks logs configured uplinks that do not exist, once each time they
// are found missing, and keeps them for status.
func (r *reporter) missingUplinks(o plan.Observed, c plan.Config) {
	missing := plan.MissingUplinks(o, c)
	for _, name := range missing {
		if !slices.Contains(r.missing, name) {
			r.log.Warn("waiting for a configured uplink: there is no such interface",
				"iface", name, "interfaces", strings.Join(plan.PossibleUplinks(o), " "))
		}
	}
	for _, name := range r.missing {
		if !slices.Contains(missing, name) {
			r.log.Info("configured uplink has appeared", "iface", name)
		}
	}
	if !slices.Equal(missing, r.missing) {
		r.missing = missing
		r.changed()
	}
}
