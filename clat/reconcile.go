package clat

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"tnat64d/siit"
)

// Progress is how far a Reconcile has come.
type Progress uint8

const (
	// Down: nothing of ours is on the host, as desired.
	Down Progress = iota
	// Pending: waiting for the kernel, which will report a change (DAD).
	Pending
	// Moving: as Pending, and an address that has passed DAD serves meanwhile.
	Moving
	// Replan: DAD has refused the address, or the kernel steering; observe and
	// plan again with the new Memory.
	Replan
	// Up: the host looks as desired.
	Up
)

// Reconciler makes the host match a plan. It is used by one goroutine.
//
// Bring-up goes from what nobody notices to what attracts traffic: address,
// DAD, TUN, steering, engine, and the IPv4 default route last. Tear-down is
// the reverse, and so ends a bring-up that fails.
type Reconciler struct {
	host    Host
	path    Datapath
	journal *Journal
	log     *slog.Logger

	cur     *running
	uplink  int          // index of the link that refused belongs to
	refused []netip.Addr // by DAD
	retry   time.Duration
	hands   foreignHands
	// noSteering says why steering was refused. That is not tried again.
	noSteering string
	saidWhy    bool
}

// running is what has been done so far for one CLAT.
type running struct {
	uplink   Uplink
	tunName  string
	queues   int
	ipv4     netip.Addr
	added    []netip.Addr // CLAT IPv6 addresses that we have put on the uplink
	active   netip.Addr   // the one of them that has passed DAD and is in use
	tun      TUN
	removed  bool // by foreign hands, and not opened again
	link     TUNLink
	steering Steering
	ours     []netip.Prefix
	engine   Engine
	config   siit.Config // of the engine's translator
	route    Route

	forwards bool // in place of steering
	diverted []Diversion
	way      Route  // and the rule that leads to it
	said     string // what the log has said of it
	lead     int    // link by which the kernel forwards to the PLAT
}

// NewReconciler returns a Reconciler for a host on which nothing of ours is
// left (see CleanUp). journal may be nil.
func NewReconciler(h Host, d Datapath, journal *Journal, log *slog.Logger) *Reconciler {
	return &Reconciler{host: h, path: d, journal: journal, log: log, hands: newForeignHands(log)}
}

// Memory returns what the next Plan has to know.
func (r *Reconciler) Memory() Memory {
	m := Memory{Refused: slices.Clone(r.refused), NoSteering: r.noSteering}
	if r.journal != nil {
		m.Changes = r.journal.Changes()
	}
	if r.cur != nil {
		m.Own = slices.Clone(r.cur.added)
		m.IPv4 = r.cur.ipv4
	}
	return m
}

// RetryAfter returns when to call Reconcile again although nothing has
// changed, or 0.
func (r *Reconciler) RetryAfter() time.Duration { return r.retry }

// Reconcile takes the host from o, which must have been observed after the
// previous call, to d. If a step fails everything is taken down again and the
// error names the step. Calling it again with the same arguments does nothing.
func (r *Reconciler) Reconcile(o Observed, d Desired) (Progress, error) {
	r.retry = 0
	if d.Uplink.Index != r.uplink {
		r.uplink, r.refused = d.Uplink.Index, nil
	}
	if r.cur != nil && (d.CLAT == nil || !r.cur.fits(d.CLAT) || r.cur.forwards && d.CLAT.Forwarding == nil) {
		if err := r.Down(); err != nil {
			return Down, err
		}
	}
	if d.CLAT == nil {
		return Down, nil
	}
	if r.cur != nil && r.cur.tunGone(o) {
		if err := r.pathGone(); err != nil {
			return Down, errors.Join(err, r.Down())
		}
	}
	if r.cur == nil {
		r.cur = &running{uplink: d.CLAT.Uplink, tunName: d.CLAT.TUN, queues: d.CLAT.Queues, ipv4: d.CLAT.IPv4}
	}
	p, err := r.bringUp(o, d.CLAT)
	if err != nil {
		return Down, errors.Join(err, r.Down())
	}
	return p, nil
}

// fits reports whether what runs can become want without starting over.
func (c *running) fits(want *CLAT) bool {
	return c.uplink == want.Uplink && c.tunName == want.TUN && c.queues == want.Queues && c.ipv4 == want.IPv4
}

func (c *running) tunGone(o Observed) bool {
	if c.tun == nil {
		return false
	}
	_, ok := o.linkByIndex(c.tun.Index())
	return !ok
}

func (r *Reconciler) bringUp(o Observed, want *CLAT) (Progress, error) {
	c := r.cur
	p, err := r.bringUpAddress(o, want.IPv6)
	if err != nil || p == Replan {
		return p, err
	}
	if p == Up {
		c.active = want.IPv6
	}
	if !c.active.IsValid() {
		return Pending, nil
	}
	if p == Pending {
		p = Moving
	}
	if c.removed {
		if !r.allow("interface " + want.TUN) {
			return Pending, nil
		}
		c.removed = false
	}
	// While a new address is in DAD the old one serves, with everything else
	// (PREF64, MTU) new already.
	now := *want
	now.IPv6 = c.active
	now.Translation.Mapping.CLAT.IPv6 = c.active
	through := r.bringUpSteering
	if want.Forwarding != nil {
		through = r.bringUpForwarding
	}
	for _, step := range []func(Observed, *CLAT) error{r.bringUpTUN, through, r.bringUpEngine, r.bringUpRoute} {
		err := step(o, &now)
		if refused := (*SteeringRefused)(nil); errors.As(err, &refused) && want.MayForward {
			r.noSteering = refused.Why
			return Replan, nil
		}
		if err != nil {
			return Down, err
		}
	}
	return p, r.removeAddrs(func(a netip.Addr) bool { return a != c.active && a != want.IPv6 })
}

// bringUpAddress returns Up if a is on the uplink and has passed DAD.
func (r *Reconciler) bringUpAddress(o Observed, a netip.Addr) (Progress, error) {
	c := r.cur
	e, present := o.addr(c.uplink.Index, a)
	known := slices.Contains(c.added, a)
	switch {
	case !present:
		if known && !r.allow(fmt.Sprintf("address %s on %s", a, c.uplink.Name)) {
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
		return Pending, nil
	case e.DADFailed:
		r.log.Warn("address is in use by another host", "iface", c.uplink.Name, "address", a)
		r.refuse(a)
		if a == c.active {
			return Replan, r.Down()
		}
		return Replan, r.removeAddrs(func(b netip.Addr) bool { return b == a })
	case e.Tentative:
		return Pending, nil
	}
	return Up, nil
}

// maxRefused bounds the memory of a host that lives for years on one link.
const maxRefused = 64

func (r *Reconciler) refuse(a netip.Addr) {
	if len(r.refused) == maxRefused {
		r.refused = r.refused[1:]
	}
	r.refused = append(r.refused, a)
}

func (r *Reconciler) bringUpTUN(o Observed, want *CLAT) error {
	c := r.cur
	opened := c.tun == nil
	if opened {
		t, err := r.path.OpenTUN(want.TUN, want.Queues)
		if err != nil {
			return fmt.Errorf("open TUN %s: %w", want.TUN, err)
		}
		c.tun = t
	}
	t := TUNLink{Index: c.tun.Index(), Alias: aliasPrefix + want.Uplink.Name, MTU: want.MTU, IPv4: want.IPv4}
	if !opened && t == c.link {
		if t.matches(o) || !r.allow("settings of "+want.TUN) {
			return nil
		}
	}
	if err := r.host.SetTUN(t); err != nil {
		return fmt.Errorf("set up %s: %w", want.TUN, err)
	}
	c.link = t
	return nil
}

func (t TUNLink) matches(o Observed) bool {
	l, ok := o.linkByIndex(t.Index)
	if !ok || !l.Up || l.Alias != t.Alias || l.MTU != int(t.MTU) {
		return false
	}
	_, ok = o.addr(t.Index, t.IPv4)
	return ok
}

func (r *Reconciler) bringUpSteering(_ Observed, want *CLAT) error {
	c := r.cur
	ours := want.Ours()
	switch {
	case c.steering == nil:
		s, err := r.path.Steer(c.uplink.Index, c.tun.Index(), ours)
		if err != nil {
			return fmt.Errorf("steer packets between %s and %s: %w", c.uplink.Name, want.TUN, err)
		}
		c.steering = s
	case !slices.Equal(ours, c.ours):
		if err := c.steering.SetOurs(ours); err != nil {
			return fmt.Errorf("steer packets for %s: %w", want.IPv6, err)
		}
	}
	c.ours = ours
	// Any address behind the PLAT will do. Without a route to it nothing can
	// be sent anyway, and the route will be a change to look at.
	if err := c.steering.Follow(want.IPv6, want.PREF64.Prefix.Addr().Next()); err != nil {
		r.log.Debug("no way to the PLAT", "iface", c.uplink.Name, "reason", err)
	}
	return nil
}

func (r *Reconciler) bringUpEngine(_ Observed, want *CLAT) error {
	c := r.cur
	if c.engine != nil && reflect.DeepEqual(c.config, want.Translation) {
		return nil
	}
	t, err := siit.New(want.Translation)
	if err != nil {
		return fmt.Errorf("translator: %w", err)
	}
	if c.engine == nil {
		e, err := r.path.Run(c.tun, t)
		if err != nil {
			return fmt.Errorf("start the engine: %w", err)
		}
		c.engine = e
	} else {
		c.engine.SetTranslator(t)
	}
	if c.steering != nil {
		if err := c.steering.Translate(want.Translation); err != nil {
			return fmt.Errorf("kernel engine: %w", err)
		}
	}
	c.config = want.Translation
	return nil
}

func (r *Reconciler) bringUpRoute(o Observed, want *CLAT) error {
	c := r.cur
	rt := Route{
		Link: c.tun.Index(), Source: want.IPv4, Metric: want.Metric, MTU: int(want.MTU.IPv4()),
		Table: TableMain, Protocol: Protocol,
	}
	old := c.route
	if rt == old && (slices.Contains(o.Routes, rt) || !r.allow("IPv4 default route on "+want.TUN)) {
		return nil
	}
	if err := r.host.AddRoute(rt); err != nil {
		return fmt.Errorf("add IPv4 default route on %s: %w", want.TUN, err)
	}
	c.route = rt
	if old != (Route{}) && old != rt {
		// After the new one is there: no packet finds the host without.
		if err := r.host.DelRoute(old); err != nil {
			return fmt.Errorf("remove old IPv4 default route on %s: %w", want.TUN, err)
		}
	}
	return nil
}

// removeAddrs takes away the CLAT addresses of ours that which selects.
func (r *Reconciler) removeAddrs(which func(netip.Addr) bool) error {
	c := r.cur
	var errs []error
	c.added = slices.DeleteFunc(c.added, func(a netip.Addr) bool {
		if !which(a) {
			return false
		}
		if err := r.host.DelCLATAddr(c.uplink.Index, a); err != nil {
			errs = append(errs, fmt.Errorf("remove address %s from %s: %w", a, c.uplink.Name, err))
			return false
		}
		if r.journal != nil {
			r.warn(r.journal.Del(c.uplink.Name, a))
		}
		return true
	})
	return errors.Join(errs...)
}

// Down takes everything away, in the reverse order of bring-up, and goes on
// after a step that fails.
func (r *Reconciler) Down() error {
	if r.cur == nil {
		return nil
	}
	err := r.pathDown()
	err = errors.Join(err, r.removeAddrs(func(netip.Addr) bool { return true }))
	r.cur = nil
	return err
}

// pathGone takes away what is left of a path whose TUN is gone.
func (r *Reconciler) pathGone() error {
	c := r.cur
	forwarded := c.forwards
	err := r.pathDown()
	c.removed = true
	if forwarded {
		// The address is no longer delivered locally: start over.
		err = errors.Join(err, r.removeAddrs(func(netip.Addr) bool { return true }))
		c.active = netip.Addr{}
	}
	return err
}

// pathDown takes everything away but the addresses on the uplink.
func (r *Reconciler) pathDown() error {
	c := r.cur
	var errs []error
	failed := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	if c.route != (Route{}) {
		failed("remove IPv4 default route", r.host.DelRoute(c.route))
	}
	if c.engine != nil {
		failed("stop the engine", c.engine.Close())
	}
	failed("stop forwarding", r.forwardingDown())
	if c.steering != nil {
		failed("stop steering", c.steering.Close())
	}
	if c.tun != nil {
		failed("close "+c.tunName, c.tun.Close())
	}
	c.route, c.engine, c.steering, c.tun = Route{}, nil, nil, nil
	return errors.Join(errs...)
}

func (r *Reconciler) allow(what string) bool {
	wait := r.hands.allow(what)
	if wait > 0 && (r.retry == 0 || wait < r.retry) {
		r.retry = wait
	}
	return wait == 0
}

func (r *Reconciler) warn(err error) {
	if err != nil {
		r.log.Warn("cannot write the journal; after a crash the CLAT address may stay on the uplink", "reason", err)
	}
}
