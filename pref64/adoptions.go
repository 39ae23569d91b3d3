package pref64

import (
	"log/slog"
	"net/netip"
)

// adoptionLog logs which prefix is used, and why.
type adoptionLog struct {
	log  *slog.Logger
	last Observation
}

// note logs that next is used from now on, instead of before. A prefix that
// comes back from the same router is not logged again.
func (a *adoptionLog) note(next Observation, before netip.Prefix) {
	if !next.Prefix.IsValid() || next.Prefix == a.last.Prefix && next.Router == a.last.Router {
		return
	}
	a.last = next
	args := []any{"pref64", next.Prefix, "source", next.Origin.String()}
	switch {
	case next.Origin == DNS:
		args = append(args, "resolver", next.Router)
	case next.Neighbour:
		args = append(args, "neighbour", next.Router)
	case next.Origin == RA:
		args = append(args, "router", next.Router)
	}
	if next.Remembered {
		args = append(args, "remembered", true)
	}
	if before.IsValid() {
		args = append(args, "instead_of", before)
	}
	a.log.Info("PREF64 adopted", args...)
}
