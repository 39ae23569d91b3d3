package clat

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/internal/cause"
)

// Progress is how far a Reconcile has come with one uplink.
type Progress uint8

const (
	// Down: nothing of ours is on the host, as desired.
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

// Outcome is what became of one Desired. Err names the step that failed; then
// everything of that uplink was taken down again.
type Outcome struct {
	Progress Progress
	Err      error
}

const (
	// holdFor is how long a CLAT without network is held: the time of a walk
	// between two networks, and not so long that programs wait in vain.
	holdFor = time.Minute
	// tryAgain is how long nothing is tried again that the kernel or another
	// host has refused.
	tryAgain = time.Minute
	// maxRefused bounds the memory of a host that lives for years on one link.
	maxRefused = 64
)

// Reconciler makes the host match a plan. It is used by one goroutine.
//
// Bring-up goes from what nobody notices to what attracts traffic: address,
// DAD, TUN, steering, engine, and the IPv4 default route last. Tear-down is
// the reverse, and so ends a bring-up that fails. What happens to one uplink
// does not touch the others.
type Reconciler struct {
	host    Host
	path    Datapath
	journal *Journal
	log     *slog.Logger

	running []*running
	toGuard []plan.Uplink
	guards  map[int]*guarded
	refused []refusal
	retry   time.Duration
	drift   map[object]*driftLimiter
	stuck   []stuckAddr
	foreign foreignRoutes

	saidNoAbort, saidNoRules bool
}

type refusal struct {
	plan.Refusal
	at time.Time
}

// NewReconciler returns a Reconciler for a host on which nothing of ours is
// left (see CleanUp). journal may be nil.
func NewReconciler(h Host, d Datapath, journal *Journal, log *slog.Logger) *Reconciler {
	r := &Reconciler{host: h, path: d, journal: journal, log: log, guards: map[int]*guarded{}, drift: map[object]*driftLimiter{}}
	if journal != nil {
		r.foreign = foreignRoutes{journal.Routes(), time.Now()}
	}
	return r
}

// Memory returns what the next [plan.Make] has to know.
func (r *Reconciler) Memory() plan.Memory {
	var m plan.Memory
	for _, f := range r.refused {
		m.Refused = append(m.Refused, f.Refusal)
	}
	for _, c := range r.running {
		m.Own = append(m.Own, c.added...)
		e := plan.Remembered{Uplink: c.uplink, TUN: c.tunName, IPv4: c.ipv4, IPv6: c.active}
		if c.tun != nil {
			e.TUNIndex = c.tun.Index()
		}
		m.CLATs = append(m.CLATs, e)
	}
	for _, s := range r.stuck {
		m.Own = append(m.Own, s.addr)
	}
	return m
}

// RetryAfter returns when to call Reconcile again although nothing has
// changed, or 0.
func (r *Reconciler) RetryAfter() time.Duration { return r.retry }

// retryIn asks for another call, unless an earlier one is due.
func (r *Reconciler) retryIn(d time.Duration) {
	if r.retry == 0 || d < r.retry {
		r.retry = max(d, time.Millisecond)
	}
}

// Reconcile takes the host from o, which must have been observed after the
// previous call, to p. There is one outcome for each of p.Uplinks, in that
// order; what p does not have is taken down. Calling it again with the same
// arguments does nothing.
func (r *Reconciler) Reconcile(o plan.Observed, p plan.Plan) []Outcome {
	r.retry, r.toGuard = 0, p.Guard
	r.forget(o, p)
	r.forgetForeignRoutes()
	r.unstick(o, p)
	outcomes := make([]Outcome, len(p.Uplinks))
	// What goes goes first: it makes room.
	for _, c := range slices.Clone(r.running) {
		i := slices.IndexFunc(p.Uplinks, func(d plan.Desired) bool { return d.Uplink == c.uplink })
		switch {
		case i < 0:
			if err := c.end(true); err != nil {
				r.log.Error("not everything could be taken down", "iface", c.uplink.Name, "reason", err)
			}
		case !c.mayStay(p.Uplinks[i]):
			err := c.end(true)
			if p.Uplinks[i].CLAT == nil {
				outcomes[i].Err = err
				break
			}
			outcomes[i].Progress = Replan // o still has what has just gone
			if err != nil {
				// After a Replan nobody asks for errors: the next outcome counts.
				r.log.Error("not everything could be taken down", "iface", c.uplink.Name, "reason", err)
			}
		}
	}
	for i, d := range p.Uplinks {
		if outcomes[i] == (Outcome{}) {
			outcomes[i] = r.reconcile(o, d, p.SourceRules)
		}
	}
	r.guard(r.toGuard)
	return outcomes
}

// reconcile brings one uplink where d wants it, after what must go has gone.
func (r *Reconciler) reconcile(o plan.Observed, d plan.Desired, sourceRules bool) Outcome {
	at := slices.IndexFunc(r.running, func(c *running) bool { return c.uplink == d.Uplink })
	switch {
	case d.CLAT == nil && at < 0:
		return Outcome{Progress: Down}
	case d.CLAT == nil:
		return r.running[at].hold(o, sourceRules)
	case at < 0:
		at = len(r.running)
		r.running = append(r.running, &running{
			rec: r, uplink: d.Uplink, tunName: d.CLAT.TUN, queues: d.CLAT.Queues, ipv4: d.CLAT.IPv4,
		})
	}
	c := r.running[at]
	p, err := c.bringUp(o, d.CLAT, sourceRules)
	if err != nil && (cause.LinkGone(err) || cause.SourceGone(err)) && c.stumbles < maxStumbles {
		// The host has changed since it was observed. The truth is in the
		// next observation.
		c.stumbles++
		r.log.Debug("the host has changed meanwhile", "iface", c.uplink.Name, "reason", err)
		return Outcome{Progress: Replan}
	}
	c.stumbles = 0
	if err != nil {
		return Outcome{Err: errors.Join(err, c.end(false))}
	}
	return Outcome{Progress: p}
}

// maxStumbles is how often in a row a step may fail because of what has just
// gone, before that is an error like others.
const maxStumbles = 3

// forget forgets refusals that may no longer be true. Those of an address in
// use are remembered as long as the link has its network: it would only be
// given up for one that is refused again.
func (r *Reconciler) forget(o plan.Observed, p plan.Plan) {
	var (
		now   = time.Now()
		waits = func(u plan.Uplink) bool {
			return !slices.ContainsFunc(r.running, func(c *running) bool { return c.uplink == u && c.active.IsValid() })
		}
	)
	r.refused = slices.DeleteFunc(r.refused, func(f refusal) bool {
		i := slices.IndexFunc(p.Uplinks, func(d plan.Desired) bool { return d.Uplink.Index == f.Link })
		l, ok := o.LinkByIndex(f.Link)
		if i < 0 || p.Uplinks[i].Hold || !ok || !l.Carrier {
			return true
		}
		if p.Uplinks[i].CLAT != nil || !waits(p.Uplinks[i].Uplink) {
			return false
		}
		left := tryAgain - now.Sub(f.at)
		r.retryIn(left) // at once if it is forgotten now: the plan does not know yet
		return left <= 0
	})
}

func (r *Reconciler) refuse(link int, a netip.Addr) {
	if len(r.refused) == maxRefused {
		r.refused = r.refused[1:]
	}
	r.refused = append(r.refused, refusal{plan.Refusal{Link: link, Addr: a}, time.Now()})
}

// Down takes everything away, in the reverse order of bring-up, and goes on
// after a step that fails. Connections are not aborted: a restart may find
// them alive.
func (r *Reconciler) Down() error {
	errs := []error{r.removeStuck(func(stuckAddr) bool { return true })}
	for _, c := range slices.Backward(slices.Clone(r.running)) {
		errs = append(errs, c.end(false))
	}
	r.leaveForeignRoutes()
	r.guard(nil)
	return errors.Join(errs...)
}

// DownUplink is Down for one uplink: what runs there is to start over.
func (r *Reconciler) DownUplink(u plan.Uplink) error {
	for _, c := range r.running {
		if c.uplink == u {
			return c.end(false)
		}
	}
	return nil
}

func (r *Reconciler) warn(err error) {
	if err != nil {
		r.log.Warn("cannot write the journal; after a crash the CLAT address may stay on the uplink", "reason", err)
	}
}

// abortFlows ends what was connected by a mapping that is no longer in force.
func (r *Reconciler) abortFlows(a netip.Addr, iface string) {
	n, err := r.host.AbortFlows(a)
	switch {
	case err != nil && !r.saidNoAbort:
		r.saidNoAbort = true
		r.log.Warn("connections that cannot survive a change of network are left to their time-outs", "reason", err)
	case err != nil:
		r.log.Debug("cannot abort connections", "iface", iface, "reason", err)
	}
	if n > 0 {
		r.log.Info("connections aborted: they cannot survive the change", "iface", iface, "connections", n)
	}
}
