package clat

import (
	"fmt"
	"slices"
	"time"
)

// guarded is a link with a guard, or one that has refused it.
type guarded struct {
	uplink  Uplink
	guard   Guard // nil: refused
	refused time.Time
}

// guard makes the guards of all links in want that have no steering, which
// is one as well, as soon as a CLAT translates, and makes again what others have
// detached. That a link cannot be guarded is worth a warning, no more.
func (r *Reconciler) guard(want []Uplink) {
	if !slices.ContainsFunc(r.running, func(c *running) bool { return c.engine != nil }) {
		want = nil
	}
	for index, g := range r.guards {
		if !slices.Contains(want, g.uplink) || r.steers(g.uplink) {
			if g.guard != nil {
				if err := g.guard.Close(); err != nil {
					r.log.Warn("cannot remove the guard", "iface", g.uplink.Name, "reason", err)
				}
			}
			delete(r.guards, index)
		}
	}
	for _, u := range want {
		if r.steers(u) {
			continue
		}
		g := r.guards[u.Index]
		if g == nil {
			g = &guarded{uplink: u}
			r.guards[u.Index] = g
		}
		// As with steering nothing reports it when somebody detaches one.
		if g.guard != nil && !g.guard.Intact() && r.allow(object{u.Index, "guard on " + u.Name}) {
			if err := g.guard.Close(); err != nil {
				r.log.Warn("cannot remove what is left of the guard", "iface", u.Name, "reason", err)
			}
			g.guard, g.refused = nil, time.Time{}
		}
		// Nothing is woken up for another try: what has refused once seldom
		// thinks better of it.
		if g.guard != nil || !g.refused.IsZero() && time.Since(g.refused) < tryAgain {
			continue
		}
		made, err := r.path.Guard(u.Index)
		if err == nil {
			g.guard = made
			continue
		}
		if g.refused.IsZero() && !linkGone(err) {
			r.log.Warn(fmt.Sprintf("nothing keeps untranslated IPv4 of the CLAT from leaving by %s", u.Name), "iface", u.Name, "reason", err)
		}
		g.refused = time.Now()
	}
}

// steers reports whether the steering of a CLAT guards the link.
func (r *Reconciler) steers(u Uplink) bool {
	return slices.ContainsFunc(r.running, func(c *running) bool { return c.uplink == u && c.steering != nil })
}
