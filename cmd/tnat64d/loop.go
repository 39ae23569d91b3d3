package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"tnat64d/clat"
	"tnat64d/clat/host"
	"tnat64d/clat/plan"
	"tnat64d/internal/backoff"
	"tnat64d/internal/cause"
	"tnat64d/internal/config"
	"tnat64d/internal/control"
)

// tnat64d is the running daemon. One goroutine, the loop, owns all of it.
type tnat64d struct {
	*inbox
	log     *slog.Logger
	file    string // of the configuration; empty: the default one
	inForce string // the file that was read; empty: none, all defaults
	conf    config.Config
	secret  []byte
	started time.Time
	clock   time.Duration // by how much the wall clock has been set since

	host     *host.Host
	found    *discoveries
	path     *datapaths
	opener   *opener
	rec      *clat.Reconciler
	judge    *platJudge
	report   *reporter
	features []control.Feature

	uplinks  []*uplink // of the last plan, in its order
	failures int       // of passes in a row
	errors   uint64
	retry    retryTimer
	tick     *time.Timer   // see onTick
	alive    time.Duration // how often systemd wants to hear of us; 0: never
}

// patience is how long DAD may keep us from telling systemd that we are
// ready: a link without carrier would do so for ever.
const patience = 5 * time.Second

// loop answers events until the context ends, or until a start fails for a
// reason that will not go away.
func (d *tnat64d) loop() error {
	d.retry.start(func() { d.post(retryDue{}) })
	defer d.retry.stop()
	d.tick = time.AfterFunc(time.Hour, func() { d.post(tickDue{}) })
	defer d.tick.Stop()
	defer time.AfterFunc(patience, func() { d.post(startIsOver{}) }).Stop()
	if err := d.pass(); err != nil {
		return err
	}
	d.onTick()
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
		d.report.sayReady()
		return nil
	case tickDue:
		d.onTick()
		return nil
	case platChecked:
		d.judge.concluded(d.uplinks, e.link, e.platCheck)
		return nil
	case returnChecked:
		d.judge.comeBack(d.uplinks, e)
		return nil
	case prefixChanged:
		d.report.changed() // also if no CLAT follows: another prefix, another resolver
	case clockSet:
		d.clockSet(e.by)
		return nil
	case reload:
		d.reload()
	case dnsChanged:
		d.found.resolversChanged()
		return nil
	case managerChanged:
		for _, wait := range managerEnds {
			time.AfterFunc(wait, func() { d.post(hostChanged{}) })
		}
	case nudged:
		d.found.nudge(e)
	case woken:
		d.found.wake(e.after)
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
	d.onTick()
	return err
}

// replans bounds how often one pass follows DAD from address to address.
const replans = 8

// pass looks at the host and makes it as it should be.
func (d *tnat64d) pass() error {
	d.retry.stop()
	for range replans {
		o, err := d.host.Observe()
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
	d.retry.in(time.Second)
	return nil
}

// engineFailed starts over where an engine has ended by itself.
func (d *tnat64d) engineFailed(p *path, err error) error {
	for _, u := range d.uplinks {
		if u.running != nil && u.running.TUN == p.tun {
			complain(d.log, d.rec.DownUplink(u.Uplink))
			return d.uplinkFailed(u, fmt.Errorf("the engine of %s has stopped: %w", p.tun, err))
		}
	}
	return nil
}

// plan decides what should be, and follows the links with the search for
// their PREF64.
func (d *tnat64d) plan(o plan.Observed) plan.Plan {
	now := time.Now()
	o.Memory = d.rec.Memory()
	for _, u := range d.uplinks {
		if left := u.again.Sub(now); left > 0 && u.attempt != (plan.Attempt{}) {
			o.Memory.Failed = append(o.Memory.Failed, plan.Failure{Uplink: u.Uplink, Attempt: u.attempt, Why: u.why})
			d.retry.in(left)
		}
	}
	conf := planConfig(d.conf, d.secret)
	d.report.missingUplinks(o, conf)
	d.found.search(plan.Candidates(o, conf), asksOf(d.conf))
	p := plan.Make(d.found.heard(o, conf), conf)
	d.found.askDNS(p)
	return p
}

// retries spaces the attempts of what fails.
var retries = backoff.Backoff{First: time.Second, Last: time.Minute}

const (
	// A start that has never succeeded and fails this often in a row is
	// given up; whoever started us should know.
	startAttempts = 3
	// lookAtOthers is how often the CLAT of another program is looked at: the
	// kernel does not report the end of its BPF programs.
	lookAtOthers = 10 * time.Second
)

// managerEnds is when the host is looked at after NetworkManager has left the
// bus, besides at once: the kernel may remove its BPF programs a little later.
var managerEnds = []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second}

// conclude reports what a pass has achieved, and sees to it that there is
// another one where something failed.
func (d *tnat64d) conclude(plans plan.Plan, outcomes []clat.Outcome) error {
	d.retry.in(d.rec.RetryAfter())
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
		if out.Missing != nil {
			working++
			if u.state != control.Failed {
				d.errors++
			}
			d.report.failure(u, "a part of the CLAT cannot be restored; retrying", out.Missing, d.conf.CLAT.TUN)
			continue
		}
		d.report.progress(u, out.Progress)
		if out.Progress == clat.Up || out.Progress == clat.Moving || out.Progress == clat.Pending {
			working++
		}
	}
	if fatal != nil && working == 0 {
		return fatal
	}
	if slices.ContainsFunc(plans.Uplinks, func(w plan.Desired) bool { return w.Why.Reason == plan.OtherCLAT }) {
		d.retry.in(lookAtOthers)
	}
	for _, w := range plans.Uplinks {
		d.retry.in(w.MoveIn)
	}
	if len(plans.Uplinks) == 0 {
		d.report.none(plans.Why)
	}
	d.report.sayHow(d.uplinks)
	return nil
}

// uplinkFailed notes that a step has failed on an uplink, and when to try it
// again. The error is that of a start that is to be given up.
func (d *tnat64d) uplinkFailed(u *uplink, err error) error {
	u.failures++
	d.errors++
	wait := retries.After(u.failures)
	u.again, u.attempt = time.Now().Add(wait), plan.Attempt{}
	if c := u.want.CLAT; c != nil {
		u.attempt = c.Attempt()
	}
	d.retry.in(wait)
	explained := d.report.failure(u, "the CLAT has failed; retrying", err, d.conf.CLAT.TUN)
	if !d.report.wasUp && !mayPass(err) && (lasting(explained) || u.failures >= startAttempts) {
		return explained
	}
	return nil
}

// failed decides what becomes of a pass that failed as a whole. Before the
// first success an error that will not go away ends the daemon; later it tries
// again, less and less often.
func (d *tnat64d) failed(err error) error {
	d.failures++
	d.errors++
	_, explained := explain(err, d.conf.CLAT.TUN)
	if !d.report.wasUp && !mayPass(err) && (lasting(explained) || d.failures >= startAttempts) {
		return explained
	}
	if d.failures == 1 {
		args := []any{"reason", explained}
		if cause.Of(err) == cause.Resource {
			args = append(args, "hint", resourceHint(err))
		}
		d.log.Error("cannot observe this host; retrying", args...)
	}
	d.retry.in(retries.After(d.failures))
	return nil
}

// stop takes everything down and says what was done.
func (d *tnat64d) stop() error {
	err := d.rec.Down()
	d.found.close()
	d.log.Info("stopped", summary(d.path.Stats())...)
	if err != nil {
		return fmt.Errorf("cannot undo all changes to the host: %w", err)
	}
	return nil
}
