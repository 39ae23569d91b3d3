package clat

import (
	"log/slog"
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

// savedRoutes are the foreign routes that the next start, or the next TUN of this
// process, restores.
type savedRoutes struct {
	journal *Journal // may be nil
	record  *addressRecord
	log     *slog.Logger
	all     []plan.SavedRoute
	since   time.Time // of those that are not in force
}

func newSavedRoutes(j *Journal, record *addressRecord, log *slog.Logger) *savedRoutes {
	s := &savedRoutes{journal: j, record: record, log: log}
	if j != nil {
		s.all, s.since = j.Routes(), time.Now()
	}
	return s
}

func (s *savedRoutes) set(all []plan.SavedRoute) {
	if slices.Equal(all, s.all) {
		return
	}
	s.all = all
	if s.journal != nil {
		s.record.warn(s.journal.SetRoutes(all, time.Time{}))
	}
}

// expire drops those that have waited for too long. inForce reports whether those
// through a TUN are in force.
func (s *savedRoutes) expire(inForce func(tun string) bool) {
	if len(s.all) == 0 || time.Since(s.since) <= savedFor {
		return
	}
	s.set(slices.DeleteFunc(slices.Clone(s.all), func(r plan.SavedRoute) bool { return !inForce(r.TUN) }))
}

// leave records the time of a stop beside the routes.
func (s *savedRoutes) leave() {
	if len(s.all) == 0 || s.journal == nil {
		return
	}
	s.record.warn(s.journal.SetRoutes(s.all, time.Now()))
	s.log.Info("removing routes of other programs together with the CLAT's interface; the next start restores them", "routes", len(s.all))
}

// foreignRoutes is the resource of other programs' routes through a CLAT's TUN,
// such as that of a VPN to its endpoint. They go with the TUN and are restored
// with the next one on the same network.
type foreignRoutes struct {
	tools
	saved    *savedRoutes
	datapath *datapath
	network  plan.Network // that they belong to
	restored bool         // through the present TUN
}

// Ensure restores the routes once for each TUN, and records what there is. A
// route that another program has made meanwhile stays as it is.
func (f *foreignRoutes) Ensure(p pass) (Progress, error) {
	f.network = p.want.Network()
	if !f.restored {
		f.restored = true
		f.restore()
	}
	f.save(false)
	return Up, nil
}

func (f *foreignRoutes) restore() {
	n := 0
	for _, s := range f.saved.all {
		if s.TUN != f.datapath.name || s.Network != f.network || time.Since(f.saved.since) > savedFor {
			continue
		}
		if err := f.host.AddForeignRoute(f.datapath.index(), s.Route); err != nil {
			f.log.Info("cannot restore a route of another program", "iface", f.datapath.name, "destination", s.Route.Destination, "reason", err)
			continue
		}
		n++
	}
	if n > 0 {
		f.log.Info("restored routes of other programs", "iface", f.datapath.name, "routes", n)
	}
}

// save records the foreign routes through the TUN, for when it is gone. Those of
// other CLATs, and of networks that may come back, stay recorded. Where finding
// them is costly they are looked for only if thorough is set.
func (f *foreignRoutes) save(thorough bool) {
	if !f.restored || f.datapath.path == nil {
		return
	}
	routes, known := f.host.ForeignRoutes(f.datapath.index(), thorough)
	if !known {
		return
	}
	saved := slices.DeleteFunc(slices.Clone(f.saved.all), func(s plan.SavedRoute) bool { return s.TUN == f.datapath.name })
	for _, r := range routes[:min(len(routes), maxSaved-min(len(saved), maxSaved))] {
		saved = append(saved, plan.SavedRoute{TUN: f.datapath.name, Network: f.network, Route: r})
	}
	f.saved.set(saved)
}

// Remove records the routes, which go with the TUN.
func (f *foreignRoutes) Remove() error {
	f.save(true)
	f.lost()
	return nil
}

// lost notes that the routes have gone with the TUN.
func (f *foreignRoutes) lost() {
	if f.restored {
		f.restored, f.saved.since = false, time.Now()
	}
}
