package clat

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/siit"
)

// running is what has been done so far for one CLAT.
type running struct {
	rec            *Reconciler
	uplink         plan.Uplink
	tunName        string
	queues         int
	ipv4           netip.Addr
	added          []netip.Addr // CLAT IPv6 addresses that we have put on the uplink
	active         netip.Addr   // the one of them that has passed DAD and is in use
	tun            Path
	removed        bool // by another program, and not opened again
	link           plan.TUNLink
	follows        followed
	drifted        bool // it is no longer as link says, and not restored yet
	steering       Steering
	knows          Guarded // of the steering
	toMany         bool    // the steering drops unicast to many
	ours           []netip.Prefix
	translates     bool
	config         siit.Config // that it translates by
	asleep         bool        // the steering is suspended
	routes         []plan.Route
	rule           plan.SourceRule // the zero SourceRule: none
	noRule         bool            // the kernel knows no rules
	held           time.Time       // since when; zero: it is not
	stumbles       int             // in a row
	eamAddrs       []netip.Addr    // of explicit mappings, on the uplink
	network        plan.Network    // that the foreign routes belong to
	routesRestored bool            // foreign routes, through the present TUN
}

// followed is for what the steering was last asked to follow the routes, and as
// they were then.
type followed struct {
	src   netip.Addr
	dst   netip.Prefix
	via   netip.Addr
	state uint64
}

// mayStay reports whether what runs can become what is desired without
// starting over.
func (c *running) mayStay(d plan.Desired) bool {
	if d.CLAT == nil {
		return d.Hold
	}
	want := d.CLAT
	return c.tunName == want.TUN && c.queues == want.Queues && c.ipv4 == want.IPv4
}

func (c *running) tunGone(o plan.Observed) bool {
	if c.tun == nil {
		return false
	}
	_, ok := o.LinkByIndex(c.tun.Index())
	return !ok
}

func (c *running) bringUp(o plan.Observed, want *plan.CLAT, sourceRules bool) (Progress, error) {
	r := c.rec
	c.held = time.Time{}
	if c.tunGone(o) {
		err := c.pathDown()
		c.removed = true
		if err != nil {
			return Down, err
		}
	}
	p, err := c.bringUpAddress(o, want.IPv6)
	if err != nil || p == Replan {
		return p, err
	}
	if p == Up {
		c.active = want.IPv6
	}
	if c.active.IsValid() && c.active != want.IPv6 && !o.Serves(c.uplink.Index, c.active) {
		// Its network is gone: nothing must come from it any more.
		c.abortFlows()
		if err := c.withdraw(); err != nil {
			return Down, err
		}
	}
	changes := func(to siit.Mapping) bool {
		was := c.config.Mapping
		return was.PREF64 != to.PREF64 || was.CLAT.IPv6 != to.CLAT.IPv6
	}
	if !c.active.IsValid() {
		if changes(want.Translation.Mapping) {
			// What cannot survive need not wait for DAD to hear of it.
			c.abortFlows()
		}
		if c.steering == nil && r.host.Connected(want.IPv4) {
			// We have been restarted, and they have not noticed yet: they
			// survive if nothing answers for us, see awaitAddress.
			return c.bringUpPath(o, want, Pending)
		}
		return Pending, c.awaitAddress(want)
	}
	if p == Pending {
		p = Moving
	}
	// While a new address is in DAD the old one serves, with everything else
	// (PREF64, MTU) new already.
	now := *want
	now.IPv6 = c.active
	now.Translation.Mapping.CLAT.IPv6 = c.active
	if changes(now.Translation.Mapping) {
		c.abortFlows()
	}
	if q, err := c.bringUpPath(o, &now, p); err != nil || q != p {
		return q, err
	}
	r.guard(r.toGuard) // before there is a route that could be the wrong one
	if err := c.bringUpRoutes(o, &now, sourceRules); err != nil {
		return Down, err
	}
	c.restoreForeignRoutes(&now)
	c.network, c.eamAddrs = now.Network(), want.EAMAddrs
	c.saveForeignRoutes(false)
	if c.bringUpEAMAddrs(o, want) {
		return Replan, nil
	}
	return p, c.removeAddrs(func(a netip.Addr) bool {
		return a != c.active && a != want.IPv6 && !slices.Contains(want.EAMAddrs, a)
	})
}

// bringUpPath makes everything that packets go through but the routes that lead
// them there, and returns p when it is there.
func (c *running) bringUpPath(o plan.Observed, want *plan.CLAT, p Progress) (Progress, error) {
	if c.removed && !c.mayRestore("interface "+want.TUN) {
		return Pending, nil
	}
	for _, step := range []func(plan.Observed, *plan.CLAT) error{c.bringUpTUN, c.bringUpSteering, c.bringUpEngine} {
		if err := step(o, want); err != nil {
			return Down, err
		}
	}
	if c.removed {
		c.removed = false
		c.restored("interface " + want.TUN)
	}
	return p, nil
}

// awaitAddress steers what comes for an address that is in DAD. From the
// moment that is over the kernel would take it for its own, and answer what is
// left of a connection from before with a reset.
func (c *running) awaitAddress(want *plan.CLAT) error {
	ours := want.Ours()
	if c.steering == nil || slices.Equal(ours, c.ours) {
		return nil
	}
	if err := c.steering.SetOurs(ours); err != nil {
		return fmt.Errorf("steer packets for %s: %w", want.IPv6, err)
	}
	c.ours = ours
	return nil
}

// bringUpAddress returns Up if a is on the uplink and has passed DAD.
func (c *running) bringUpAddress(o plan.Observed, a netip.Addr) (Progress, error) {
	r := c.rec
	e, present := o.Addr(c.uplink.Index, a)
	r.adopt(c, a)
	known := slices.Contains(c.added, a)
	switch {
	case !present:
		name := fmt.Sprintf("address %s on %s", a, c.uplink.Name)
		if known && !c.mayRestore(name) {
			return Pending, nil
		}
		if !known {
			if r.journal != nil {
				r.warn(r.journal.Add(c.uplink.Name, a))
			}
			c.added = append(c.added, a)
		}
		if err := r.host.AddCLATAddr(c.uplink.Index, a); err != nil {
			return Down, fmt.Errorf("add address %s to %s: %w", a, c.uplink.Name, err)
		}
		if known {
			c.restored(name)
		}
		return Pending, nil
	case e.DADFailed:
		r.log.Warn("address is in use by another host", "iface", c.uplink.Name, "address", a)
		r.refuse(c.uplink.Index, a)
		if a == c.active {
			c.abortFlows()
			return Replan, c.withdraw()
		}
		return Replan, c.removeAddrs(func(b netip.Addr) bool { return b == a })
	case e.Tentative:
		return Pending, nil
	}
	return Up, nil
}

func (c *running) bringUpTUN(o plan.Observed, want *plan.CLAT) error {
	opened := c.tun == nil
	if opened {
		t, err := c.rec.path.Open(want.TUN, want.Queues)
		if err != nil {
			return fmt.Errorf("open TUN %s: %w", want.TUN, err)
		}
		c.tun = t
	}
	t := plan.TUNLink{Index: c.tun.Index(), Alias: plan.AliasPrefix + want.Uplink.Name, MTU: want.MTU, IPv4: want.IPv4}
	name := "settings of " + want.TUN
	c.drifted = !opened && t == c.link && !t.Matches(o)
	if !opened && t == c.link && !c.drifted || c.drifted && !c.mayRestore(name) {
		return nil
	}
	if err := c.rec.host.SetTUN(t); err != nil {
		return fmt.Errorf("set up %s: %w", want.TUN, err)
	}
	c.link = t
	if c.drifted {
		c.drifted = false
		c.restored(name)
	}
	return nil
}

func (c *running) bringUpSteering(o plan.Observed, want *plan.CLAT) error {
	ours := want.Ours()
	// Nothing reports it when somebody removes BPF programs. But what follows
	// from it, a PLAT that seems to be silent, leads here.
	name := "steering between " + c.uplink.Name + " and " + want.TUN
	drifted := c.steering != nil && !c.steering.Intact() && c.mayRestore(name)
	if drifted {
		err := c.steering.Close()
		c.steering, c.asleep = nil, true
		if err != nil {
			return fmt.Errorf("remove what is left of the steering: %w", err)
		}
	}
	switch {
	case c.steering == nil:
		c.ours = ours
		g := c.rec.guarded()
		s, err := c.tun.Steer(c.uplink.Index, ours, g)
		if err != nil {
			return fmt.Errorf("steer packets between %s and %s: %w", c.uplink.Name, want.TUN, err)
		}
		c.steering, c.follows, c.knows, c.toMany = s, followed{}, g, false
		if drifted {
			c.restored(name)
		}
	case c.asleep || !slices.Equal(ours, c.ours):
		if err := c.steering.SetOurs(ours); err != nil {
			return fmt.Errorf("steer packets for %s: %w", want.IPv6, err)
		}
	}
	c.ours = ours
	if uplink, ok := o.LinkByIndex(c.uplink.Index); ok && uplink.DropUnicastToMany != c.toMany {
		if err := c.steering.SetDropUnicastToMany(uplink.DropUnicastToMany); err != nil {
			return fmt.Errorf("unicast in multicast frames on %s: %w", c.uplink.Name, err)
		}
		c.toMany = uplink.DropUnicastToMany
	}
	// Without a route to the PLAT nothing can be sent anyway, and the route will
	// be a change to look at.
	f := followed{src: want.IPv6, dst: want.PREF64.Prefix, via: want.Via}
	f.state = c.rec.host.RouteState(f.dst)
	if c.follows == f {
		return nil
	}
	c.follows = f
	if err := c.steering.Follow(f.src, f.dst, f.via); err != nil {
		c.follows = followed{}
		c.rec.log.Debug("no way to the PLAT", "iface", c.uplink.Name, "reason", err)
	}
	return nil
}

func (c *running) bringUpEngine(_ plan.Observed, want *plan.CLAT) error {
	if c.translates && !c.asleep && reflect.DeepEqual(c.config, want.Translation) {
		return nil
	}
	if err := c.tun.SetMapping(want.Translation); err != nil {
		return fmt.Errorf("translate by the new mapping: %w", err)
	}
	c.translates = true
	c.config, c.asleep = want.Translation, false
	return nil
}

// removeAddrs takes away the CLAT addresses of ours that which selects.
func (c *running) removeAddrs(which func(netip.Addr) bool) error {
	var errs []error
	c.added = slices.DeleteFunc(c.added, func(a netip.Addr) bool {
		if !which(a) {
			return false
		}
		err := c.rec.removeAddr(c.uplink, a)
		if err != nil {
			errs = append(errs, err)
		}
		return err == nil
	})
	return errors.Join(errs...)
}

// abortFlows ends what is connected by the mapping in force. To be called
// before that changes, so that the other side hears of it too.
func (c *running) abortFlows() {
	if c.config.Mapping.PREF64.IsValid() {
		c.rec.abortFlows(c.ipv4, c.uplink.Name)
	}
	c.config = siit.Config{}
}

// end takes everything away, in the reverse order of bring-up, and goes on
// after a step that fails. abort: what is connected can wait for nothing.
func (c *running) end(abort bool) error {
	r := c.rec
	abort = abort && c.translates
	if abort {
		c.abortFlows()
	}
	c.saveForeignRoutes(true)
	all := func(netip.Addr) bool { return true }
	// The addresses go before the steering lets go of them: otherwise the kernel
	// answers what is on its way with a reset, and no connection survives a
	// restart.
	err := errors.Join(c.routesDown(), c.removeAddrs(all), c.pathDown(), c.removeAddrs(all))
	r.stick(c)
	if abort {
		// Those who have tried once more meanwhile.
		r.abortFlows(c.ipv4, c.uplink.Name)
	}
	r.running = slices.DeleteFunc(r.running, func(other *running) bool { return other == c })
	return err
}

// withdraw ends the use of the active address. TUN, IPv4 address and engine
// wait for the next one, and packets have no way meanwhile.
func (c *running) withdraw() error {
	errs := []error{c.routesDown()}
	// Before the steering lets go of it, or the kernel would answer for it.
	gone := c.active
	errs = append(errs, c.removeAddrs(func(a netip.Addr) bool { return a == gone || c.answers(a) }))
	c.active = netip.Addr{}
	if c.steering != nil {
		errs = append(errs, c.steering.Suspend())
	}
	c.asleep = true
	return errors.Join(errs...)
}

// pathDown takes everything away but the addresses on the uplink.
func (c *running) pathDown() error {
	var errs []error
	failed := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	failed("remove IPv4 default route", c.routesDown())
	failed("remove the rule", c.ruleDown())
	if c.tun != nil {
		failed("close "+c.tunName, c.tun.Close())
	}
	if c.routesRestored {
		c.routesRestored, c.rec.foreign.since = false, time.Now()
	}
	c.translates, c.steering, c.tun, c.asleep = false, nil, nil, false
	c.config, c.ours, c.link = siit.Config{}, nil, plan.TUNLink{}
	return errors.Join(errs...)
}
