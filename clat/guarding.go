package clat

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/internal/cause"
)

// guarded is a link with a guard, or one that has refused it.
type guarded struct {
	uplink  plan.Uplink
	guard   Guard // nil: refused
	refused time.Time
	knows   Guarded
}

// guarded returns the addresses that belong to our CLATs at present.
func (r *Reconciler) guarded() (g Guarded) {
	for _, c := range r.running {
		g.IPv4 = append(g.IPv4, c.ipv4)
		g.IPv6 = append(g.IPv6, c.ours...)
		for _, a := range c.added {
			g.IPv6 = append(g.IPv6, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	slices.SortFunc(g.IPv4, netip.Addr.Compare)
	slices.SortFunc(g.IPv6, netip.Prefix.Compare)
	g.IPv4, g.IPv6 = slices.Compact(g.IPv4), slices.Compact(g.IPv6)
	return g
}

// tellGuards tells every steering and guard which addresses to guard.
func (r *Reconciler) tellGuards() {
	now := r.guarded()
	tell := func(link string, knows *Guarded, set func(Guarded) error) {
		if reflect.DeepEqual(*knows, now) {
			return
		}
		if err := set(now); err != nil {
			r.log.Warn("cannot guard the addresses of the CLAT", "iface", link, "reason", err)
			r.retryIn(tryAgain)
			return
		}
		*knows = now
	}
	for _, c := range r.running {
		if c.steering != nil {
			tell(c.uplink.Name, &c.knows, c.steering.SetGuarded)
		}
	}
	for _, g := range r.guards {
		if g.guard != nil {
			tell(g.uplink.Name, &g.knows, g.guard.SetGuarded)
		}
	}
}

// guard makes the guards of all links in want that have no steering, which
// is one as well, as soon as a CLAT translates, and makes again what others have
// detached. That a link cannot be guarded is worth a warning, no more.
func (r *Reconciler) guard(want []plan.Uplink) {
	r.tellGuards()
	if !slices.ContainsFunc(r.running, func(c *running) bool { return c.translates }) {
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
		name := object{u.Index, "guard on " + u.Name}
		drifted := g.guard != nil && !g.guard.Intact() && r.mayRestore(name)
		if drifted {
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
		now := r.guarded()
		made, err := r.path.Guard(u.Index, now)
		if err == nil {
			g.guard, g.knows = made, now
			if drifted {
				r.restored(name)
			}
			continue
		}
		if g.refused.IsZero() && !cause.LinkGone(err) {
			r.log.Warn(fmt.Sprintf("nothing keeps untranslated IPv4 of the CLAT from leaving by %s", u.Name), "iface", u.Name, "reason", err)
		}
		g.refused = time.Now()
	}
}

// steers reports whether the steering of a CLAT guards the link.
func (r *Reconciler) steers(u plan.Uplink) bool {
	return slices.ContainsFunc(r.running, func(c *running) bool { return c.uplink == u && c.steering != nil })
}
