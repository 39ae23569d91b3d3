package main

import (
	"slices"
	"strings"

	"tnat64d/clat/plan"
)

// missingUplinks logs configured uplinks that do not exist, once each time they
// are found missing, and keeps them for status.
func (d *tnat64d) missingUplinks(o plan.Observed, c plan.Config) {
	missing := plan.MissingUplinks(o, c)
	for _, name := range missing {
		if !slices.Contains(d.missing, name) {
			d.log.Warn("waiting for a configured uplink: there is no such interface",
				"iface", name, "interfaces", strings.Join(plan.PossibleUplinks(o), " "))
		}
	}
	for _, name := range d.missing {
		if !slices.Contains(missing, name) {
			d.log.Info("configured uplink has appeared", "iface", name)
		}
	}
	if !slices.Equal(missing, d.missing) {
		d.missing = missing
		d.changed()
	}
}
