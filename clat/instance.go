package clat

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/internal/cause"
)

// instance is the CLAT of one uplink: its resources, and what decides when they
// are ensured and removed.
type instance struct {
	tools
	uplink plan.Uplink
	queues int

	address  *address
	datapath *datapath
	guards   *guards
	rule     *rule
	routes   *routes
	foreign  *foreignRoutes

	towards towards      // in force
	tried   plan.Attempt // of the last pass

	served bool      // has been complete since an address serves
	held   time.Time // since when the network is gone; zero: it is there
	ended  bool      // everything is removed
	stale  int       // passes in a row that failed because the host had changed since it was observed
}

// towards is the PREF64 that packets are sent to, and by which router.
type towards struct {
	pref64 plan.PREF64
	via    netip.Addr
}

// parts lists the resources in the order of bring-up, from what nobody notices to
// what attracts traffic. Tear-down is the list backwards.
func (c *instance) parts() parts {
	return parts{
		{c.address, &c.address.retry},
		{c.datapath, nil},
		{c.guards, nil}, // retries by itself, for each link
		{inService{c.address}, &c.address.inService},
		{c.rule, &c.rule.retry},
		{c.routes, &c.routes.retry},
		{c.foreign, nil}, // never fails
	}
}

// remembered is what the next plan has to know.
func (c *instance) remembered() plan.Remembered {
	return plan.Remembered{
		Uplink: c.uplink, TUN: c.datapath.name, TUNIndex: c.datapath.index(), IPv4: c.datapath.ipv4, IPv6: c.address.active,
		OneAddress: c.datapath.renumbering.oneAddress(c.address.active),
	}
}

// mayStay reports whether what runs can become what is desired without starting
// over.
func (c *instance) mayStay(d plan.Desired) bool {
	if d.CLAT == nil {
		return d.Hold
	}
	want := d.CLAT
	return c.datapath.name == want.TUN && c.queues == want.Queues && c.datapath.ipv4 == want.IPv4
}

// maxStale is how often in a row a step may fail because of what has just gone,
// before that is an error like others.
const maxStale = 3

// reconcile brings the CLAT where want says. If a step fails because the host has
// changed since it was observed, the truth is in the next observation; otherwise
// everything is taken down.
func (c *instance) reconcile(o plan.Observed, want *plan.CLAT, sourceRules plan.SourceRules) Outcome {
	p, err := c.ensure(o, want, sourceRules)
	if err != nil && (cause.LinkGone(err) || cause.SourceGone(err)) && c.stale < maxStale {
		c.stale++
		c.log.Debug("the host has changed meanwhile", "iface", c.uplink.Name, "reason", err)
		return Outcome{Progress: Replan}
	}
	c.stale = 0
	if err != nil {
		return Outcome{Err: errors.Join(err, c.remove(false))}
	}
	return Outcome{Progress: p, Missing: c.parts().missing()}
}

func (c *instance) ensure(o plan.Observed, want *plan.CLAT, sourceRules plan.SourceRules) (Progress, error) {
	c.held = time.Time{}
	if a := want.Attempt(); a != c.tried {
		c.tried = a
		c.parts().retryNow()
	}
	if c.datapath.gone(o) {
		if err := c.lose(); err != nil {
			return Down, err
		}
	}
	p := pass{o: o, want: want, next: want.IPv6, sourceRules: sourceRules}
	if opened, err := c.steerFirst(p); err != nil || opened {
		return Replan, err // the observation does not have the TUN
	}
	parts := c.parts()
	progress, err := parts[0].attempt(p, c.served, c.wake)
	switch {
	case err != nil:
		return Down, err
	case progress == Replan && c.address.dadRefused == c.address.active:
		c.datapath.breakFlows()
		return Replan, c.withdraw()
	case progress == Replan:
		return Replan, nil
	}
	if a := c.address.active; a.IsValid() && a != want.IPv6 && !c.address.serves(o) {
		// Its network is gone: nothing must come from it any more.
		c.datapath.breakFlows()
		if err := c.withdraw(); err != nil {
			return Down, err
		}
	}
	if !c.address.active.IsValid() {
		return c.awaitAddress(p)
	}
	if progress == Pending {
		progress = Moving
	}
	// While a new address is in DAD the old one serves, and with it the old
	// PREF64: what the change breaks breaks once. The rest (MTU) is new already.
	now := *want
	now.IPv6 = c.address.active
	now.Translation.Mapping.CLAT.IPv6 = c.address.active
	now.Shared = c.address.shared
	if now.IPv6 != want.IPv6 {
		now.Next = netip.Addr{}
	}
	if now.IPv6 != want.IPv6 && c.datapath.translatesBy(c.towards.pref64.Prefix) {
		now.PREF64, now.Via = c.towards.pref64, c.towards.via
		now.Translation.Mapping.PREF64 = now.PREF64.Prefix
	}
	p.want = &now
	c.towards = towards{now.PREF64, now.Via}
	if changes(c.datapath.mapping.Mapping, now.Translation.Mapping) {
		c.datapath.breakFlowsTo(now.IPv6)
	}
	for _, r := range parts[1:] {
		switch q, err := r.attempt(p, c.served, c.wake); {
		case err != nil:
			return Down, err
		case q == Pending && r.retry != nil && r.retry.err != nil:
			// What comes after it was complete too.
		case q != Up:
			return q, nil
		}
	}
	c.served = c.served || parts.missing() == nil
	return progress, nil
}

// steerFirst steers packets for the next address before the uplink has it, where
// connections may have survived that began with it: after a restart, or on the way
// back to a network. Once DAD is over (at once where the link does none) the kernel
// takes the address for its own and answers what arrives with a reset. It reports
// whether it has opened the path for that.
func (c *instance) steerFirst(p pass) (opened bool, err error) {
	switch {
	case c.address.active.IsValid() || p.want.Shared || c.datapath.inherited != 0:
		return false, nil // in the last case programs of the process before steer
	case c.datapath.steering != nil:
		return false, c.datapath.await(p.want)
	case !c.left.has(c.uplink.Name, p.next) && !c.host.Connected(p.want.IPv4):
		return false, nil
	}
	_, err = c.datapath.Ensure(p)
	return true, err
}

// awaitAddress does what can be done while no address serves.
func (c *instance) awaitAddress(p pass) (Progress, error) {
	if changes(c.datapath.mapping.Mapping, p.want.Translation.Mapping) {
		// What cannot survive need not wait for DAD to hear of it.
		c.datapath.breakFlows()
	}
	return Pending, c.datapath.await(p.want)
}

// withdraw ends the use of the address that serves. TUN, IPv4 address and engine
// wait for the next one, and packets have no way meanwhile.
func (c *instance) withdraw() error {
	// The address goes before the steering lets go of it, or the kernel would
	// answer for it.
	c.served = false
	return errors.Join(c.routes.Remove(), c.rule.routes.Remove(), c.address.withdraw(), c.datapath.suspend())
}

// lose takes down what has gone with a TUN that another program removed.
func (c *instance) lose() error {
	err := errors.Join(c.routes.Remove(), c.rule.Remove(), c.datapath.Remove())
	c.foreign.lost()
	c.datapath.state = pathLost
	return err
}

// hold keeps a CLAT whose network is gone, for a minute: TUN, IPv4 address and
// engine, but no IPv4 default route, so that programs hear at once that the
// network is unreachable. What connections there are survive if it comes back
// with the same prefixes, and listening sockets in any case.
func (c *instance) hold(o plan.Observed, sourceRules plan.SourceRules) Outcome {
	if c.held.IsZero() {
		c.held = time.Now()
	}
	left := holdFor - time.Since(c.held)
	if left <= 0 || !c.datapath.started || c.datapath.gone(o) {
		return Outcome{Progress: Down, Err: c.remove(true)}
	}
	if err := c.withhold(o, sourceRules); err != nil {
		return Outcome{Err: errors.Join(err, c.remove(false))}
	}
	c.wake.in(left)
	return Outcome{Progress: Held}
}

func (c *instance) withhold(o plan.Observed, sourceRules plan.SourceRules) error {
	err := errors.Join(c.routes.Remove(), c.rule.block(pass{o: o, sourceRules: sourceRules}))
	// The kernel takes the addresses of a link that goes down: no other program
	// has removed them.
	a := c.address
	own, _ := plan.OwnSource(o, c.uplink.Index)
	err = errors.Join(err, a.removeIf(func(b netip.Addr) bool {
		_, there := o.Addr(c.uplink.Index, b)
		return !there || !own && b != a.active
	}))
	// Without another address the kernel would choose the CLAT's for native IPv6.
	// What routers say is not asked here: those that say anything at all may
	// not be the ones that matter.
	if a.active.IsValid() && (!slices.Contains(a.added, a.active) || !own || !plan.HasPrefixOf(o, c.uplink.Index, a.active)) {
		err = errors.Join(err, c.withdraw())
	}
	return err
}

// remove removes everything, in the reverse order of bring-up, and continues
// after a step that fails. abort: what is connected can wait for nothing.
func (c *instance) remove(abort bool) error {
	abort = abort && c.datapath.started
	if abort {
		c.datapath.breakFlows()
	}
	var errs []error
	for _, r := range slices.Backward(c.parts()) {
		errs = append(errs, r.Remove())
	}
	c.address.unremoved.keep(c.address)
	if abort {
		// Those who have tried once more meanwhile.
		c.flows.abort(c.datapath.ipv4, nil, c.uplink.Name)
	}
	c.ended = true
	return errors.Join(errs...)
}
