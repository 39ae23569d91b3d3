package clat

import (
	"slices"
	"time"

	"tnat64d/clat/plan"
)

const (
	// maxSaved bounds the foreign routes that are remembered.
	maxSaved = 64
	// savedFor is for how long after a stop, and after the start that finds
	// them, foreign routes are restored: the time of a restart or an upgrade.
	savedFor = 10 * time.Minute
)

// foreignRoutes are what the next start, or the next TUN of this process,
// restores.
type foreignRoutes struct {
	saved []plan.SavedRoute
	since time.Time // of those that are not in force
}

// restoreForeignRoutes puts the foreign routes of the network through the TUN again, once for
// each TUN. A route that another program has made meanwhile stays as it is.
func (c *running) restoreForeignRoutes(want *plan.CLAT) {
	r := c.rec
	if c.routesRestored {
		return
	}
	c.routesRestored = true
	n := 0
	for _, s := range r.foreign.saved {
		if s.TUN != want.TUN || s.Network != want.Network() || time.Since(r.foreign.since) > savedFor {
			continue
		}
		if err := r.host.AddForeignRoute(c.tun.Index(), s.Route); err != nil {
			r.log.Info("cannot restore a route of another program", "iface", want.TUN, "destination", s.Route.Destination, "reason", err)
			continue
		}
		n++
	}
	if n > 0 {
		r.log.Info("restored routes of other programs", "iface", want.TUN, "routes", n)
	}
}

// saveForeignRoutes records the foreign routes through the TUN, for when it is
// gone. Those of other CLATs, and of networks that may come back, stay recorded.
func (c *running) saveForeignRoutes(thorough bool) {
	r := c.rec
	if !c.routesRestored || c.tun == nil {
		return
	}
	routes, known := r.host.ForeignRoutes(c.tun.Index(), thorough)
	if !known {
		return
	}
	saved := slices.DeleteFunc(slices.Clone(r.foreign.saved), func(s plan.SavedRoute) bool { return s.TUN == c.tunName })
	for _, f := range routes[:min(len(routes), maxSaved-min(len(saved), maxSaved))] {
		saved = append(saved, plan.SavedRoute{TUN: c.tunName, Network: c.network, Route: f})
	}
	r.setSaved(saved)
}

func (r *Reconciler) setSaved(saved []plan.SavedRoute) {
	if slices.Equal(saved, r.foreign.saved) {
		return
	}
	r.foreign.saved = saved
	if r.journal != nil {
		r.warn(r.journal.SetRoutes(saved, time.Time{}))
	}
}

// forgetForeignRoutes drops those that have waited for too long.
func (r *Reconciler) forgetForeignRoutes() {
	inForce := func(s plan.SavedRoute) bool {
		return slices.ContainsFunc(r.running, func(c *running) bool { return c.tunName == s.TUN && c.routesRestored })
	}
	if len(r.foreign.saved) == 0 || time.Since(r.foreign.since) <= savedFor {
		return
	}
	r.setSaved(slices.DeleteFunc(slices.Clone(r.foreign.saved), func(s plan.SavedRoute) bool { return !inForce(s) }))
}

// leaveForeignRoutes records the time of a stop beside the routes.
func (r *Reconciler) leaveForeignRoutes() {
	if len(r.foreign.saved) == 0 || r.journal == nil {
		return
	}
	r.warn(r.journal.SetRoutes(r.foreign.saved, time.Now()))
	r.log.Info("routes of other programs go with the CLAT's interface; the next start restores them", "routes", len(r.foreign.saved))
}
