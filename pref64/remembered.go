package pref64

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Remembered is the prefix in use of one process, for the next one on the same
// network. It is provisional there: until its router or a resolver says it again,
// or something else, or its lifetime has passed.
type Remembered struct {
	Prefix  netip.Prefix
	Origin  Origin        // RA or DNS
	Router  netip.Addr    // who said so: the router or the resolver, without zone
	Default bool          // Router is a default router of the link
	Left    time.Duration // of its lifetime
	MTU     int           // bytes, of router advertisements; 0: none
}

const (
	maxLifetimeRA  = 65528 * time.Second // of a PREF64 option (RFC 8781 section 4)
	maxLifetimeDNS = maxTTL + graceTTL
)

// Check returns an error that says why r cannot come from a router or a resolver.
func (r Remembered) Check() error {
	longest := maxLifetimeRA
	switch {
	case r.Origin == DNS && (!r.Router.IsValid() || r.Router.Zone() != ""):
		return errors.New("the resolver is no address")
	case r.Origin == DNS:
		longest = maxLifetimeDNS
	case r.Origin != RA:
		return errors.New("the source is neither router advertisements nor DNS")
	case !isLinkLocal(r.Router) || r.Router.Zone() != "":
		return errors.New("the router has no link-local address")
	}
	switch p, err := Check(r.Prefix); {
	case err != nil:
		return err
	case p != r.Prefix:
		return fmt.Errorf("invalid PREF64 %q: it has bits beyond its length", r.Prefix)
	case r.Left <= 0 || r.Left > longest:
		return fmt.Errorf("a remaining lifetime of %v, which none has that comes from %v", r.Left, r.Origin)
	case r.MTU != 0 && (r.MTU < minMTU || r.MTU > 1<<31-1):
		return fmt.Errorf("an IPv6 MTU of %d", r.MTU)
	}
	return nil
}

// Remembered returns the prefix in use for the next process. ok is false if there is
// none that should outlive this one: none at all, a configured one, one from before
// the link last got carrier, one that its router no longer mentions, or one whose
// PLAT does not answer.
func (f *Finder) Remembered() (r Remembered, ok bool) {
	f.Tracker.mu.Lock()
	defer f.Tracker.mu.Unlock()
	return f.state.remembered(time.Now())
}

// Restore uses r, which was in use on this network until a moment ago, unless
// something has been found already or the Options exclude its source. Its lifetime
// goes on. r has passed Check.
func (f *Finder) Restore(r Remembered) {
	if len(f.options.Static) > 0 || r.Origin == RA && !f.options.RA || r.Origin == DNS && !f.options.DNS {
		return
	}
	f.event(func(s *state, now time.Time) { s.restore(r, f.options.Interface, now) })
}

func (s *state) remembered(now time.Time) (r Remembered, ok bool) {
	current := s.choice.current
	i := slices.IndexFunc(s.prefixes, func(e entry) bool { return s.selection().isInUse(e) && e.Origin == current.Origin })
	if i < 0 {
		return r, false
	}
	e := s.prefixes[i]
	if e.Origin == Static || e.Expires.IsZero() || e.stale || e.mention.superseded || !s.doubts.until(e.Prefix).IsZero() {
		return r, false
	}
	return Remembered{Prefix: e.Prefix, Origin: e.Origin, Router: e.Router, Default: e.byRouter, Left: e.Expires.Sub(now), MTU: s.mtu}, true
}

func (s *state) restore(r Remembered, ifindex int, now time.Time) {
	if len(s.prefixes) > 0 {
		return
	}
	s.observe(Observation{
		Prefix: r.Prefix, Origin: r.Origin, Router: r.Router, Interface: ifindex, Expires: now.Add(r.Left), Remembered: true,
	}, nil, now)
	for e := range s.prefixes.of(r.Router) {
		e.byRouter = e.byRouter || r.Default // on a point-to-point link no route names it
	}
	if s.mtu == 0 {
		s.mtu = r.MTU
	}
}

// refute takes in the first advertisement of the router of a remembered prefix. If
// the prefix is not in it, it ends in five seconds, as it would on a new attachment,
// for the router may spread its options over several advertisements; any other
// prefix comes before it. refute reports whether the router should be asked.
func (t *tables) refute(ra *RouterAdvertisement, now time.Time) (ask bool) {
	for e := range t.prefixes.of(ra.Router) {
		if !e.Remembered || e.mention.superseded || slices.ContainsFunc(ra.PREF64, func(p PREF64) bool { return p.Prefix == e.Prefix }) {
			continue
		}
		e.mention.superseded = true
		e.Expires = earlier(e.Expires, now.Add(confirmWithin))
		ask = true
	}
	return ask
}
