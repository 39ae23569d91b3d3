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

// guards is the resource of the guards of the host: one for each link of the plan
// that no steering guards, while a CLAT translates. The CLATs share it, and each
// of them ensures it before it has a route.
type guards struct {
	tools
	opener Opener
	clats  *instances
	want   []plan.Uplink // of the last plan
	links  map[int]*guard
}

// guard is the guard of one link. Where it is refused it is tried again every
// [tryAgain].
type guard struct {
	uplink  plan.Uplink
	made    Guard     // nil: refused
	refused time.Time // the last time; zero: not since it was made
	told    Guarded
	drift   driftLimit
}

// addresses returns the addresses that belong to our CLATs at present.
func (g *guards) addresses() (a Guarded) {
	for _, c := range g.clats.running() {
		a.IPv4 = append(a.IPv4, c.datapath.ipv4)
		a.IPv6 = append(a.IPv6, c.datapath.steered.ours...)
		for _, addr := range c.address.added {
			a.IPv6 = append(a.IPv6, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	slices.SortFunc(a.IPv4, netip.Addr.Compare)
	slices.SortFunc(a.IPv6, netip.Prefix.Compare)
	a.IPv4, a.IPv6 = slices.Compact(a.IPv4), slices.Compact(a.IPv6)
	return a
}

// Ensure tells every steering and guard which addresses to guard, makes the
// guards that are missing, as soon as a CLAT translates, and makes again what
// others have detached. A link that cannot be guarded is worth a warning, no
// more.
func (g *guards) Ensure(pass) (Progress, error) {
	g.tell()
	want := g.want
	if !slices.ContainsFunc(g.clats.running(), func(c *instance) bool { return c.datapath.started }) {
		want = nil
	}
	g.removeIf(func(l *guard) bool { return !slices.Contains(want, l.uplink) || g.steers(l.uplink) })
	for _, u := range want {
		if !g.steers(u) {
			g.ensureLink(u)
		}
	}
	return Up, nil
}

// Remove does nothing: the guards stay while another CLAT needs them. See
// [guards.removeAll].
func (g *guards) Remove() error { return nil }

func (g *guards) removeAll() {
	g.want = nil
	g.removeIf(func(*guard) bool { return true })
}

func (g *guards) removeIf(which func(*guard) bool) {
	for index, l := range g.links {
		if !which(l) {
			continue
		}
		if l.made != nil {
			if err := l.made.Close(); err != nil {
				g.log.Warn("cannot remove the guard", "iface", l.uplink.Name, "reason", err)
			}
		}
		delete(g.links, index)
	}
}

func (g *guards) ensureLink(u plan.Uplink) {
	l := g.links[u.Index]
	if l == nil {
		l = &guard{uplink: u}
		g.links[u.Index] = l
	}
	// As with steering nothing reports it when somebody detaches one.
	name := "guard on " + u.Name
	drifted := l.made != nil && !l.made.Intact() && l.drift.mayRestore(g.tools, name)
	if drifted {
		if err := l.made.Close(); err != nil {
			g.log.Warn("cannot remove the remains of the guard", "iface", u.Name, "reason", err)
		}
		l.made, l.refused = nil, time.Time{}
	}
	// Nothing is woken up for another try: a kernel that has refused once seldom
	// accepts later.
	if l.made != nil || !l.refused.IsZero() && time.Since(l.refused) < tryAgain {
		return
	}
	now := g.addresses()
	made, err := g.opener.Guard(u.Index, now)
	if err != nil {
		if l.refused.IsZero() && !cause.LinkGone(err) {
			g.log.Warn(fmt.Sprintf("no guard on %s: untranslated IPv4 of the CLAT may leave there", u.Name), "iface", u.Name, "reason", err)
		}
		l.refused = time.Now()
		return
	}
	l.made, l.told = made, now
	if drifted {
		l.drift.restored(g.tools, name)
	}
}

// tell tells every steering and guard which addresses to guard.
func (g *guards) tell() {
	now := g.addresses()
	one := func(link string, told *Guarded, set func(Guarded) error) {
		if reflect.DeepEqual(*told, now) {
			return
		}
		if err := set(now); err != nil {
			g.log.Warn("cannot guard the addresses of the CLAT", "iface", link, "reason", err)
			g.wake.in(tryAgain)
			return
		}
		*told = now
	}
	for _, c := range g.clats.running() {
		if c.datapath.steering != nil {
			one(c.uplink.Name, &c.datapath.steered.guarded, c.datapath.steering.SetGuarded)
		}
	}
	for _, l := range g.links {
		if l.made != nil {
			one(l.uplink.Name, &l.told, l.made.SetGuarded)
		}
	}
}

// steers reports whether the steering of a CLAT guards the link.
func (g *guards) steers(u plan.Uplink) bool {
	return slices.ContainsFunc(g.clats.running(), func(c *instance) bool { return c.uplink == u && c.datapath.steering != nil })
}
