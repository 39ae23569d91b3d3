package clat

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// ForeignRoute is an IPv4 route of another program through a TUN of ours, such
// as that of a VPN to its endpoint. It goes with the TUN.
type ForeignRoute struct {
	Destination netip.Prefix
	Source      netip.Addr // preferred, may be invalid
	Gateway     netip.Addr // may be invalid
	Metric      int
	MTU         int // 0: none given
	Table       int
	Protocol    int
	Scope       int
	TOS         int
	Flags       int // RTNH_F_ONLINK
}

// SavedRoute is a foreign route with the network that the CLAT was on: it makes
// no sense on another.
type SavedRoute struct {
	TUN     string
	Network Network
	Route   ForeignRoute
}

// Network tells networks apart. The CLAT IPv6 address depends on the interface,
// its prefix and PREF64.
type Network struct {
	Uplink string
	IPv6   netip.Addr
	PREF64 netip.Prefix
}

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
	saved []SavedRoute
	since time.Time // of those that are not in force
}

// restoreForeignRoutes puts the foreign routes of the network through the TUN again, once for
// each TUN. A route that another program has made meanwhile stays as it is.
func (c *running) restoreForeignRoutes(want *CLAT) {
	r := c.rec
	if c.routesRestored {
		return
	}
	c.routesRestored = true
	n := 0
	for _, s := range r.foreign.saved {
		if s.TUN != want.TUN || s.Network != want.network() || time.Since(r.foreign.since) > savedFor {
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
	saved := slices.DeleteFunc(slices.Clone(r.foreign.saved), func(s SavedRoute) bool { return s.TUN == c.tunName })
	for _, f := range routes[:min(len(routes), maxSaved-min(len(saved), maxSaved))] {
		saved = append(saved, SavedRoute{c.tunName, c.network, f})
	}
	r.setSaved(saved)
}

func (r *Reconciler) setSaved(saved []SavedRoute) {
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
	inForce := func(s SavedRoute) bool {
		return slices.ContainsFunc(r.running, func(c *running) bool { return c.tunName == s.TUN && c.routesRestored })
	}
	if len(r.foreign.saved) == 0 || time.Since(r.foreign.since) <= savedFor {
		return
	}
	r.setSaved(slices.DeleteFunc(slices.Clone(r.foreign.saved), func(s SavedRoute) bool { return !inForce(s) }))
}

// leaveForeignRoutes records the time of a stop beside the routes.
func (r *Reconciler) leaveForeignRoutes() {
	if len(r.foreign.saved) == 0 || r.journal == nil {
		return
	}
	r.warn(r.journal.SetRoutes(r.foreign.saved, time.Now()))
	r.log.Info("routes of other programs go with the CLAT's interface; the next start restores them", "routes", len(r.foreign.saved))
}

func (c CLAT) network() Network { return Network{c.Uplink.Name, c.IPv6, c.PREF64.Prefix} }

// fields are the words of a line of the journal.
func (s SavedRoute) fields() []string {
	addr := func(a netip.Addr) string {
		if !a.IsValid() {
			return "-"
		}
		return a.String()
	}
	f := s.Route
	words := []string{s.TUN, s.Network.Uplink, addr(s.Network.IPv6), s.Network.PREF64.String(), f.Destination.String(), addr(f.Source), addr(f.Gateway)}
	for _, n := range []int{f.Metric, f.MTU, f.Table, f.Protocol, f.Scope, f.TOS, f.Flags} {
		words = append(words, strconv.Itoa(n))
	}
	return words
}

// parseSavedRoute reads the words of a line of the journal.
func parseSavedRoute(words []string) (s SavedRoute, err error) {
	if len(words) != 14 {
		return s, fmt.Errorf("%d words", len(words))
	}
	addr := func(w string) (a netip.Addr) {
		if w != "-" && err == nil {
			a, err = netip.ParseAddr(w)
		}
		return a
	}
	prefix := func(w string) (p netip.Prefix) {
		if err == nil {
			p, err = netip.ParsePrefix(w)
		}
		return p
	}
	s.TUN, s.Network = words[0], Network{Uplink: words[1], IPv6: addr(words[2]), PREF64: prefix(words[3])}
	f := &s.Route
	f.Destination, f.Source, f.Gateway = prefix(words[4]), addr(words[5]), addr(words[6])
	for i, n := range []*int{&f.Metric, &f.MTU, &f.Table, &f.Protocol, &f.Scope, &f.TOS, &f.Flags} {
		var v uint64
		if v, err = strconv.ParseUint(words[7+i], 10, 32); err != nil {
			return s, err
		}
		*n = int(v)
	}
	if err == nil && (!f.Destination.Addr().Is4() || f.Source.IsValid() && !f.Source.Is4() || f.Gateway.IsValid() && !f.Gateway.Is4()) {
		err = fmt.Errorf("%s is not an IPv4 route", f.Destination)
	}
	return s, err
}
