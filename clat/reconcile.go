package clat

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"tnat64d/clat/plan"
)

// Progress is how far a Reconcile has come with one uplink.
type Progress uint8

const (
	// Down: no CLAT is on the host, as desired. There may be a reserve: see
	// [plan.Desired].
	Down Progress = iota
	// Pending: waiting for the kernel, which will report a change (DAD).
	Pending
	// Moving: as Pending, and an address that has passed DAD serves meanwhile.
	Moving
	// Replan: DAD has refused the address, or the host is no longer as
	// observed; observe and plan again with the new Memory.
	Replan
	// Up: the host looks as desired.
	Up
	// Held: TUN, IPv4 address and sockets wait for the network to come back.
	Held
)

// Outcome is the result of one Desired. Err names the step that failed; then
// everything of that uplink was removed again. Missing says which parts of a CLAT
// that was complete cannot be restored at the moment: the rest of it stays, and each
// of these parts is tried again after its own backoff.
type Outcome struct {
	Progress Progress
	Err      error
	Missing  error
}

const (
	// holdFor is how long a CLAT without network is held: the time of a walk
	// between two networks, and not so long that programs wait in vain.
	holdFor = time.Minute
	// tryAgain is how long nothing is tried again that the kernel or another
	// host has refused.
	tryAgain = time.Minute
)

// Reconciler makes the host match a plan. It is used by one goroutine.
//
// Each CLAT is a list of resources: address, datapath, guards, rule, routes.
// Bring-up ensures them in order, and the IPv4 default route comes last.
// Tear-down removes them in the reverse order, and so ends a bring-up that fails.
// What happens to one uplink does not touch the others.
type Reconciler struct {
	tools
	opener Opener

	clats     instances
	guards    *guards
	refusals  *refusals
	unremoved *unremoved
	reserves  reserves
	saved     *savedRoutes
	inherited *inherited // nil: nothing

	warnedNoRules bool
}

// NewReconciler returns a Reconciler for a host on which nothing of ours is
// left (see CleanUp), or what Inherit takes over. journal may be nil.
func NewReconciler(h Host, d Opener, journal *Journal, log *slog.Logger) *Reconciler {
	wake := &wakeup{}
	record := &addressRecord{journal, log}
	t := tools{
		host: h, log: log, journal: record, wake: wake,
		flows: &flows{host: h, log: log}, left: LeftAddrs{}, detections: &detections{host: h},
	}
	r := &Reconciler{
		tools: t, opener: d, refusals: &refusals{wake: wake}, unremoved: &unremoved{tools: t},
		reserves: reserves{opener: d}, saved: newSavedRoutes(journal, record, log),
	}
	r.guards = &guards{tools: t, opener: d, clats: &r.clats, links: map[int]*guard{}}
	return r
}

// Memory returns what the next [plan.Make] has to know.
func (r *Reconciler) Memory() plan.Memory {
	var m plan.Memory
	for _, f := range r.refusals.all {
		m.Refused = append(m.Refused, f.Refusal)
	}
	for _, c := range r.clats.running() {
		m.Own = append(m.Own, c.address.added...)
		m.CLATs = append(m.CLATs, c.remembered())
	}
	for _, a := range r.reserves.all {
		m.Own = append(m.Own, a.added...)
	}
	m.CLATs = append(m.CLATs, r.inherited.remembered()...)
	m.Left = r.left.recent()
	for _, s := range r.unremoved.all {
		m.Own = append(m.Own, s.addr)
	}
	return m
}

// Left returns the addresses that served until a moment ago. The caller may load
// those of the process before into it, before the first Reconcile.
func (r *Reconciler) Left() LeftAddrs { return r.left }

// RetryAfter returns when to call Reconcile again although nothing has
// changed, or 0.
func (r *Reconciler) RetryAfter() time.Duration { return r.wake.after }

// Reconcile takes the host from o, which must have been observed after the
// previous call, to p. There is one outcome for each of p.Uplinks, in that
// order; what p does not have is taken down. Calling it again with the same
// arguments does nothing.
func (r *Reconciler) Reconcile(o plan.Observed, p plan.Plan) []Outcome {
	r.wake.after, r.guards.want = 0, p.Guard
	r.refusals.expire(o, p, func(u plan.Uplink) bool {
		c := r.clats.on(u)
		return c != nil && c.address.active.IsValid()
	})
	r.saved.expire(func(tun string) bool {
		return slices.ContainsFunc(r.clats.running(), func(c *instance) bool { return c.datapath.name == tun && c.foreign.restored })
	})
	r.unremoved.retry(o, p)
	r.detections.endUnwanted(p)
	if err := r.reserves.removeUnwanted(p); err != nil {
		r.log.Error("cannot remove the reserved CLAT address", "reason", err)
	}
	decided := map[plan.Uplink]Outcome{}
	for _, u := range r.inherited.settle(p) {
		decided[u] = Outcome{Progress: Replan} // the observation still has what has just gone
	}
	r.removeUnwanted(p, decided) // first: it makes room
	var outcomes []Outcome
	for _, d := range p.Uplinks {
		out, ok := decided[d.Uplink]
		switch {
		case ok:
		case d.Detect.IsValid() && r.detect(o, d):
			out.Progress = Replan
		default:
			out = r.reconcile(o, d, p.SourceRules)
		}
		outcomes = append(outcomes, out)
	}
	r.guards.Ensure(pass{})
	r.inherited.finish(r.clats.running())
	return outcomes
}

// removeUnwanted removes the CLATs that p does not have, or has otherwise, and adds
// to decided what became of their uplinks.
func (r *Reconciler) removeUnwanted(p plan.Plan, decided map[plan.Uplink]Outcome) {
	for _, c := range slices.Clone(r.clats.running()) {
		i := slices.IndexFunc(p.Uplinks, func(d plan.Desired) bool { return d.Uplink == c.uplink })
		if i >= 0 && c.mayStay(p.Uplinks[i]) {
			continue
		}
		err := c.remove(true)
		if i >= 0 && p.Uplinks[i].CLAT == nil && !p.Uplinks[i].Reserve.IsValid() {
			decided[c.uplink] = Outcome{Progress: Down, Err: err}
			continue
		}
		if i >= 0 {
			decided[c.uplink] = Outcome{Progress: Replan} // the observation still has what has just gone
		}
		if err != nil {
			// Nobody asks for the errors of these: after a Replan the next outcome counts.
			r.log.Error("cannot undo all changes to the host", "iface", c.uplink.Name, "reason", err)
		}
	}
}

// reconcile brings one uplink where d wants it, after what must go has gone.
func (r *Reconciler) reconcile(o plan.Observed, d plan.Desired, sourceRules plan.SourceRules) Outcome {
	c := r.clats.on(d.Uplink)
	switch {
	case d.CLAT == nil && c == nil && d.Reserve.IsValid():
		return r.reserve(o, d)
	case d.CLAT == nil && c == nil:
		return Outcome{Progress: Down}
	case d.CLAT == nil:
		return c.hold(o, sourceRules)
	case c == nil:
		c = r.start(d.CLAT)
	}
	return c.reconcile(o, d.CLAT, sourceRules)
}

// reserve puts the address on the uplink that a CLAT will have, and prepares its
// packet path.
func (r *Reconciler) reserve(o plan.Observed, d plan.Desired) Outcome {
	a := r.reserves.on(d.Uplink)
	if a == nil {
		a = newAddress(r.tools, d.Uplink, r.refusals, r.unremoved)
		r.reserves.all = append(r.reserves.all, a)
	}
	progress, err := a.reserve(o, d.Reserve)
	if err != nil { // no CLAT has failed: none is needed
		r.log.Debug("cannot add the reserved CLAT address to the uplink; retrying", "iface", d.Uplink.Name, "reason", err)
		r.wake.in(tryAgain)
	}
	if err == nil && progress != Replan {
		r.opener.Prepare(d.Uplink, d.Queues)
	}
	return Outcome{Progress: progress}
}

// start adds a CLAT. Nothing of it is on the host yet but its address, if that was
// in reserve.
func (r *Reconciler) start(want *plan.CLAT) *instance {
	u := want.Uplink
	path := &datapath{tools: r.tools, opener: r.opener, guarded: r.guards.addresses, uplink: u, name: want.TUN, ipv4: want.IPv4,
		renumbering: renumbering{tools: r.tools, uplink: u, ipv4: want.IPv4}}
	main := routes{tools: r.tools, uplink: u, tun: want.TUN, datapath: path}
	reserved := r.reserves.take(u)
	if reserved == nil {
		reserved = newAddress(r.tools, u, r.refusals, r.unremoved)
	}
	c := &instance{
		tools: r.tools, uplink: u, queues: want.Queues,
		address:  reserved,
		datapath: path, guards: r.guards,
		rule:    &rule{routes: main, warned: &r.warnedNoRules},
		routes:  &main,
		foreign: &foreignRoutes{tools: r.tools, saved: r.saved, datapath: path},
	}
	r.inherited.take(c)
	r.clats.all = append(r.clats.running(), c)
	return c
}

// Down removes everything in the reverse order of bring-up. It continues after a
// step that fails, and returns all errors. It does not abort connections: they may
// survive a restart.
func (r *Reconciler) Down() error {
	errs := []error{
		r.unremoved.remove(func(unremovedAddr) bool { return true }),
		r.reserves.removeIf(func(*address) bool { return true }),
	}
	r.detections.endUnwanted(plan.Plan{})
	r.inherited.abandon()
	for _, c := range slices.Backward(slices.Clone(r.clats.running())) {
		errs = append(errs, c.remove(false))
	}
	r.saved.leave()
	r.guards.removeAll()
	return errors.Join(errs...)
}

// DownUplink is Down for one uplink, so that its CLAT starts afresh.
func (r *Reconciler) DownUplink(u plan.Uplink) error {
	if c := r.clats.on(u); c != nil {
		return c.remove(false)
	}
	return nil
}
