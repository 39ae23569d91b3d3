package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"tnat64d/clat"
	"tnat64d/cmd/internal/config"
)

// tnat64d is the running daemon. One goroutine, the loop, owns all of it.
type tnat64d struct {
	ctx    context.Context // ends the loop and everything beside it
	file   string          // of the configuration; empty: the default one
	log    *slog.Logger
	conf   config.Config
	secret []byte
	kernel *clat.Kernel
	path   *datapath
	rec    *clat.Reconciler
	disc   *discovery
	events chan event

	state    state // the last one that was logged
	warnings []string
	ready    bool // systemd knows
	wasUp    bool // a CLAT has been up since the start
	failures int  // in a row
	retry    *time.Timer
}

// event is something that calls for another look.
type event any

type (
	hostChanged   struct{} // links, addresses or routes
	prefixChanged struct{} // what the tracker says
	retryDue      struct{} // the timer
	startIsOver   struct{} // of patience with DAD before saying ready
	reload        struct{} // SIGHUP
	engineEnded   struct { // by itself
		engine *running
		err    error
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

func (d *tnat64d) postSignals(hup <-chan os.Signal) {
	for {
		select {
		case <-hup:
			d.post(reload{})
		case <-d.ctx.Done():
			return
		}
	}
}

// loop answers events until the context ends, or until a start fails for a
// reason that will not go away.
func (d *tnat64d) loop() error {
	d.retry = time.AfterFunc(time.Hour, func() { d.post(retryDue{}) })
	defer d.retry.Stop()
	defer time.AfterFunc(patience, func() { d.post(startIsOver{}) }).Stop()
	if err := d.pass(); err != nil {
		return err
	}
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
	case startIsOver:
		d.sayReady()
		return nil
	case reload:
		d.reload()
	case engineEnded:
		if e.engine.Engine != d.path.current() {
			return nil // its successor runs already
		}
		// A TUN that was removed is put back by the pass, as everything is.
		if !errors.Is(e.err, os.ErrClosed) {
			d.complain(d.rec.Down())
			return d.failed(fmt.Errorf("the engine has stopped: %w", e.err))
		}
	}
	return d.pass()
}

// replans bounds how often one pass follows DAD from address to address.
const replans = 8

// pass looks at the host and makes it as it should be.
func (d *tnat64d) pass() error {
	d.retry.Stop()
	for range replans {
		o, err := d.kernel.Observe()
		if err != nil {
			return d.failed(err)
		}
		want, err := d.plan(&o)
		if err != nil {
			return d.failed(err)
		}
		progress, err := d.rec.Reconcile(o, want)
		if err != nil {
			if d.changedMeanwhile(want) {
				continue
			}
			return d.failed(err)
		}
		if progress == clat.Replan {
			continue
		}
		d.failures = 0
		if wait := d.rec.RetryAfter(); wait > 0 {
			d.retry.Reset(wait)
		}
		d.report(progress, want)
		return nil
	}
	d.retry.Reset(time.Second)
	return nil
}

// plan decides what should be, and follows the uplink with the search for its
// PREF64.
func (d *tnat64d) plan(o *clat.Observed) (clat.Desired, error) {
	o.Memory = d.rec.Memory()
	if o.Memory.NoSteering != "" {
		if err := d.kernel.ObserveForwarding(o); err != nil {
			return clat.Desired{}, err
		}
	}
	conf := planConfig(d.conf, d.secret)
	seen := *o
	seen.PREF64 = nil
	up := clat.Plan(seen, conf).Uplink
	switch {
	case up.Index == 0:
		d.disc.close()
		d.disc = nil
	case !d.disc.fits(up, d.conf):
		d.disc.close()
		d.disc = discover(d.ctx, up, d.conf, d.log, func() { d.post(prefixChanged{}) })
	}
	d.disc.complete(o)
	return clat.Plan(*o, conf), nil
}

// changedMeanwhile reports whether a step may have failed because the host was
// no longer as observed.
func (d *tnat64d) changedMeanwhile(was clat.Desired) bool {
	o, err := d.kernel.Observe()
	if err != nil {
		return false
	}
	now, err := d.plan(&o)
	return err == nil && ((now.CLAT == nil) != (was.CLAT == nil) || now.Uplink != was.Uplink)
}

const (
	firstRetry = time.Second
	lastRetry  = time.Minute
	// A start that has never succeeded and fails this often in a row is
	// given up; whoever started us should know.
	startAttempts = 3
)

// failed decides what becomes of a failed pass. Before the first success an
// error that will not go away ends the daemon; later it tries again, less and
// less often.
func (d *tnat64d) failed(err error) error {
	d.failures++
	explained := explain(err, d.conf.CLAT.TUN)
	var lasting *failure
	if !d.wasUp && (errors.As(explained, &lasting) || d.failures >= startAttempts) {
		return explained
	}
	wait := min(firstRetry<<min(d.failures-1, 10), lastRetry)
	d.enter(state{kind: "failed", reason: explained.Error()}, slog.LevelError, "the CLAT has failed; trying again", "reason", explained)
	d.retry.Reset(wait)
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
	if err != nil {
		d.keepOld(err)
		return
	}
	for _, w := range warnings {
		d.log.Warn("configuration", "reason", w.String())
	}
	old := d.conf
	d.conf = c
	if c.Translation.ICMPErrorsPerSecond != old.Translation.ICMPErrorsPerSecond || c.CLAT.Engine != old.CLAT.Engine {
		// They belong to the engine, which is then a new one.
		d.path.errorsPerSecond, d.path.engine = c.Translation.ICMPErrorsPerSecond, c.CLAT.Engine
		d.complain(d.rec.Down())
	}
	if c.Control.Metrics != old.Control.Metrics {
		d.log.Warn("a change of control.metrics needs a restart")
	}
	if !slices.Equal(c.Discovery.Sources, old.Discovery.Sources) {
		d.disc.close()
		d.disc = nil
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
	d.disc.close()
	d.log.Info("stopped", summary(d.path.Stats())...)
	if err != nil {
		return fmt.Errorf("not everything could be taken down: %w", err)
	}
	return nil
}
