package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"tnat64d/clat"
	"tnat64d/clat/host"
	"tnat64d/clat/plan"
	"tnat64d/internal/bus"
	"tnat64d/internal/cause"
	"tnat64d/internal/config"
	"tnat64d/internal/control"
	"tnat64d/internal/resume"
	"tnat64d/internal/say"
)

// tnat64d is the running daemon. One goroutine, the loop, owns all of it.
type tnat64d struct {
	ctx     context.Context // ends the loop and everything beside it
	file    string          // of the configuration; empty: the default one
	inForce string          // the file that was read; empty: none, all defaults
	log     *slog.Logger
	conf    config.Config
	secret  []byte
	started time.Time
	kernel  *host.Host
	path    *datapaths
	rec     *clat.Reconciler
	bus     *bus.Bus
	events  chan event

	// peers lists with whom programs speak from a CLAT's address; probe asks
	// some of them through a PLAT. See probeWay.
	// unreachable is about a router on a link.
	peers       func(netip.Addr) []host.Peer
	unreachable func(link int, router netip.Addr) bool
	probe       func(context.Context, probeWay, []target) bool

	links    map[int]*discovery // by index: where PREF64 is looked for
	nudged   *nudges            // what network managers' hooks have told
	tunnel   atomic.Bool        // there is a tunnel: resolv.conf may be its
	uplinks  []*uplink          // of the last plan, in its order
	why      plan.Why           // there is none
	missing  []string           // configured uplinks that do not exist
	features []control.Feature
	server   *control.Server // nil: there is no socket

	ready    bool // systemd knows
	wasUp    bool // a CLAT has been up since the start
	failures int  // of passes in a row
	errors   uint64
	retry    *time.Timer
	due      time.Time   // of retry; zero: it does not run
	tick     *time.Timer // see look
	wokeUp   time.Time
	byClock  bool          // it was the clock that told of that
	told     string        // systemd's STATUS
	alive    time.Duration // how often systemd wants to hear of us; 0: never
}

// event is something that calls for another look.
type event any

type (
	hostChanged   struct{}                      // links, addresses or routes
	prefixChanged struct{}                      // what a tracker says
	retryDue      struct{}                      // the timer
	tickDue       struct{}                      // the other timer
	startIsOver   struct{}                      // of patience with DAD before saying ready
	reload        struct{}                      // SIGHUP
	dnsChanged    struct{}                      // the resolvers of some link
	woken         struct{ after time.Duration } // 0: logind says so, and not for how long
	nudged        struct {
		control.Nudge
		by control.Peer
	}
	asked       struct{ f func() } // by the control socket or the metrics
	platChecked struct {
		link plan.Uplink
		platCheck
	}
	returnChecked struct {
		link    plan.Uplink
		way     string
		answers map[netip.Prefix]bool // of PREF64s that were given up
	}
	engineEnded struct { // by itself
		path *path
		err  error
	}
)

// patience is how long DAD may keep us from telling systemd that we are
// ready: a link without carrier would do so for ever.
const patience = 5 * time.Second

// post hands an event to the loop, unless that has ended.
func (d *tnat64d) post(e event) {
	select {
	case d.events <- e:
	case <-d.ctx.Done():
	}
}

// ask runs f in the loop, and reports whether it did within the time of ctx.
func (d *tnat64d) ask(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	select {
	case d.events <- asked{func() { f(); close(done) }}:
	case <-ctx.Done():
		return false
	case <-d.ctx.Done():
		return false
	}
	<-done
	return true
}

// listen turns what others tell into events.
func (d *tnat64d) listen(hup <-chan os.Signal) {
	for {
		select {
		case <-hup:
			d.post(reload{})
		case <-d.bus.DNSChanged():
			d.post(dnsChanged{})
		case asleep := <-d.bus.Sleep():
			if !asleep {
				d.post(woken{})
			}
		case <-d.ctx.Done():
			return
		}
	}
}

// slept is called when the machine has slept, or somebody has set its clock,
// which is nothing to us.
func (d *tnat64d) slept(e resume.Event) {
	if e.Slept > 0 {
		d.post(woken{e.Slept})
	}
}

// loop answers events until the context ends, or until a start fails for a
// reason that will not go away.
func (d *tnat64d) loop() error {
	d.retry = time.AfterFunc(time.Hour, func() { d.post(retryDue{}) })
	defer d.retry.Stop()
	d.tick = time.AfterFunc(time.Hour, func() { d.post(tickDue{}) })
	defer d.tick.Stop()
	defer time.AfterFunc(patience, func() { d.post(startIsOver{}) }).Stop()
	if err := d.pass(); err != nil {
		return err
	}
	d.look()
	for {
		select {
		case <-d.ctx.Done():
			return nil
		case e := <-d.events:
			if err := d.handle(e); err != nil {
				return err
			}
		}
	}
}

func (d *tnat64d) handle(e event) error {
	switch e := e.(type) {
	case asked:
		e.f()
		return nil
	case startIsOver:
		d.sayReady()
		return nil
	case tickDue:
		d.look()
		return nil
	case platChecked:
		d.concluded(e.link, e.platCheck)
		return nil
	case returnChecked:
		d.comeBack(e)
		return nil
	case prefixChanged:
		d.changed() // also if no CLAT follows: another prefix, another resolver
	case reload:
		d.reload()
	case dnsChanged:
		for _, l := range d.links {
			l.finder.ResolversChanged()
		}
		return nil
	case nudged:
		if e.Resolvers != nil && d.nudged.set(e.Interface, e.Resolvers, d.listensTo) {
			d.log.Info("a nudge named the DNS servers of an interface", "iface", e.Interface, "servers", e.Resolvers, "uid", e.by.UID, "pid", e.by.PID)
		}
		d.refresh(e.Interface)
	case woken:
		d.wake(e.after)
	case engineEnded:
		if !d.path.alive(e.path) {
			return nil // its successor runs already
		}
		// A TUN that was removed is restored by the pass, as everything is.
		if !errors.Is(e.err, os.ErrClosed) {
			return d.engineFailed(e.path, e.err)
		}
	}
	err := d.pass()
	d.look()
	return err
}

// replans bounds how often one pass follows DAD from address to address.
const replans = 8

// pass looks at the host and makes it as it should be.
func (d *tnat64d) pass() error {
	d.retry.Stop()
	d.due = time.Time{}
	for range replans {
		o, err := d.kernel.Observe()
		if err != nil {
			return d.failed(err)
		}
		p := d.plan(o)
		outcomes := d.rec.Reconcile(o, p)
		if slices.ContainsFunc(outcomes, func(out clat.Outcome) bool { return out.Progress == clat.Replan }) {
			continue
		}
		return d.conclude(p, outcomes)
	}
	d.retryAfter(time.Second)
	return nil
}

// engineFailed starts over where an engine has ended by itself.
func (d *tnat64d) engineFailed(p *path, err error) error {
	for _, u := range d.uplinks {
		if u.running != nil && u.running.TUN == p.tun {
			d.complain(d.rec.DownUplink(u.Uplink))
			return d.uplinkFailed(u, fmt.Errorf("the engine of %s has stopped: %w", p.tun, err))
		}
	}
	return nil
}

// plan decides what should be, and follows the links with the search for
// their PREF64.
func (d *tnat64d) plan(o plan.Observed) plan.Plan {
	o.Memory = d.rec.Memory()
	o.Memory.Failed = d.backingOff(time.Now())
	conf := planConfig(d.conf, d.secret)
	d.missingUplinks(o, conf)
	d.search(o, conf)
	p := plan.Make(d.heard(o), conf)
	asked := map[int]bool{}
	for _, want := range p.Uplinks {
		asked[want.Uplink.Index] = want.AskDNS
	}
	for index, l := range d.links {
		l.pause(!asked[index])
	}
	return p
}

// backingOff lists the bring-ups that have failed and whose next attempt waits,
// and asks for a pass when it is due.
func (d *tnat64d) backingOff(now time.Time) (fs []plan.Failure) {
	for _, u := range d.uplinks {
		if left := u.again.Sub(now); left > 0 && u.attempt != (plan.Attempt{}) {
			fs = append(fs, plan.Failure{Uplink: u.Uplink, Attempt: u.attempt, Why: u.why})
			d.retryAfter(left)
		}
	}
	return fs
}

const (
	firstRetry = time.Second
	lastRetry  = time.Minute
	// A start that has never succeeded and fails this often in a row is
	// given up; whoever started us should know.
	startAttempts = 3
)

// conclude reports what a pass has achieved, and sees to it that there is
// another one where something failed.
func (d *tnat64d) conclude(plans plan.Plan, outcomes []clat.Outcome) error {
	d.retryAfter(d.rec.RetryAfter())
	d.follow(plans)
	d.failures = 0
	var fatal error
	working := 0
	for i, out := range outcomes {
		u := d.uplinks[i]
		if c := u.want.CLAT; c != nil {
			u.running = c
			d.path.belongs(c.TUN, u.Name)
		}
		if out.Err != nil {
			fatal = errors.Join(fatal, d.uplinkFailed(u, out.Err))
			continue
		}
		if u.want.Backoff {
			continue // and has failed still
		}
		if out.Progress != clat.Pending && out.Progress != clat.Moving {
			u.failures, u.attempt = 0, plan.Attempt{}
		}
		d.report(u, out.Progress)
		if out.Progress == clat.Up || out.Progress == clat.Moving || out.Progress == clat.Pending {
			working++
		}
	}
	if fatal != nil && working == 0 {
		return fatal
	}
	if len(plans.Uplinks) == 0 {
		d.none(plans.Why)
	}
	d.sayHow()
	return nil
}

// uplinkFailed notes that a step has failed on an uplink, and when to try it
// again. The error is that of a start that is to be given up.
func (d *tnat64d) uplinkFailed(u *uplink, err error) error {
	u.failures++
	d.errors++
	wait := backoff(u.failures)
	u.again, u.attempt = time.Now().Add(wait), plan.Attempt{}
	if c := u.want.CLAT; c != nil {
		u.attempt = c.Attempt()
	}
	d.retryAfter(wait)
	reason, explained := explain(err, d.conf.CLAT.TUN)
	args := []any{"reason", explained}
	if f := (*say.Failure)(nil); mayPass(err) && errors.As(explained, &f) {
		args = append(args, "hint", f.Hint)
	}
	d.enter(u, news{
		state: control.Failed, why: plan.Why{Reason: reason, Text: explained.Error()}, level: slog.LevelError,
		message: "the CLAT has failed; trying again", args: args,
	})
	if !d.wasUp && !mayPass(err) && (lasting(explained) || u.failures >= startAttempts) {
		return explained
	}
	return nil
}

// backoff is how long to wait after a number of failures in a row.
func backoff(failures int) time.Duration {
	return min(firstRetry<<min(failures-1, 10), lastRetry)
}

// retryAfter asks for another pass in wait, if none comes sooner. 0 asks for
// nothing.
func (d *tnat64d) retryAfter(wait time.Duration) {
	if wait > 0 && (d.due.IsZero() || time.Now().Add(wait).Before(d.due)) {
		d.due = time.Now().Add(wait)
		d.retry.Reset(wait)
	}
}

// failed decides what becomes of a pass that failed as a whole. Before the
// first success an error that will not go away ends the daemon; later it tries
// again, less and less often.
func (d *tnat64d) failed(err error) error {
	d.failures++
	d.errors++
	_, explained := explain(err, d.conf.CLAT.TUN)
	if !d.wasUp && !mayPass(err) && (lasting(explained) || d.failures >= startAttempts) {
		return explained
	}
	if d.failures == 1 {
		args := []any{"reason", explained}
		if cause.Of(err) == cause.Resource {
			args = append(args, "hint", resourceHint(err))
		}
		d.log.Error("looking at this host has failed; trying again", args...)
	}
	d.retryAfter(backoff(d.failures))
	return nil
}

// complain logs errors of a tear-down.
func (d *tnat64d) complain(err error) {
	if err != nil {
		d.log.Error("not everything could be taken down", "reason", err)
	}
}

// reload reads the configuration again. A bad one changes nothing.
func (d *tnat64d) reload() {
	notify(d.log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
	defer notify(d.log, daemon.SdNotifyReady)
	c, warnings, err := config.Load(d.file)
	if err == nil {
		err = checkProcess(c)
	}
	if cause.Of(err) == cause.Resource {
		d.log.Error("cannot read the new configuration yet; trying again", "reason", err, "hint", resourceHint(err))
		time.AfterFunc(lastRetry/10, func() { d.post(reload{}) })
		return
	}
	if err != nil {
		d.keepOld(err)
		return
	}
	for _, w := range warnings {
		d.log.Warn("configuration", "reason", w.String())
	}
	old := d.conf
	d.conf, d.inForce = c, configFile(d.file)
	if c.Translation.ICMPErrorsPerSecond != old.Translation.ICMPErrorsPerSecond || c.CLAT.Engine != old.CLAT.Engine {
		// They belong to the engine, which is then a new one.
		d.path.errorsPerSecond, d.path.engine = c.Translation.ICMPErrorsPerSecond, c.CLAT.Engine
		d.complain(d.rec.Down())
	}
	if c.Control != old.Control {
		d.log.Warn("a change of the table [control] needs a restart")
	}
	d.log.Info("configuration read again")
}

func (d *tnat64d) keepOld(err error) {
	const what = "the new configuration is refused; the old one stays in force"
	var bad *config.Error
	if !errors.As(err, &bad) {
		d.log.Error(what, "reason", err)
		return
	}
	for _, p := range bad.Problems {
		d.log.Error(what, "reason", p.String())
	}
}

// stop takes everything down and says what was done.
func (d *tnat64d) stop() error {
	err := d.rec.Down()
	d.forgetLinks()
	d.log.Info("stopped", summary(d.path.Stats())...)
	if err != nil {
		return fmt.Errorf("not everything could be taken down: %w", err)
	}
	return nil
}
