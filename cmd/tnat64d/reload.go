package main

import (
	"errors"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"tnat64d/clat/plan"
	"tnat64d/internal/cause"
	"tnat64d/internal/config"
	"tnat64d/internal/daemon"
)

// reload reads the configuration again. A bad one changes nothing.
func (d *tnat64d) reload() {
	daemon.Notify(d.log, systemd.SdNotifyReloading+"\n"+systemd.SdNotifyMonotonicUsec())
	defer daemon.Notify(d.log, systemd.SdNotifyReady)
	c, warnings, err := config.Load(d.file)
	if err == nil {
		err = checkProcess(c)
	}
	if cause.Of(err) == cause.Resource {
		d.log.Error("cannot read the new configuration yet; retrying", "reason", err, "hint", resourceHint(err))
		time.AfterFunc(retries.Last/10, func() { d.post(reload{}) })
		return
	}
	if err != nil {
		keepOld(d.log, err)
		return
	}
	for _, w := range warnings {
		d.log.Warn("configuration", "reason", w.String())
	}
	old := d.conf
	d.judge.target = c.Discovery.PLATProbe
	d.conf, d.inForce = c, configFile(d.file)
	for _, u := range d.uplinks {
		u.failures, u.attempt = 0, plan.Attempt{} // what failed may succeed now
	}
	if c.Translation.ICMPErrorsPerSecond != old.Translation.ICMPErrorsPerSecond || c.CLAT.Engine != old.CLAT.Engine {
		// They belong to the engine, which is then a new one.
		d.opener.errorsPerSecond, d.opener.engine = c.Translation.ICMPErrorsPerSecond, c.CLAT.Engine
		complain(d.log, d.rec.Down())
		for _, u := range d.uplinks {
			u.identity = identity{} // what is up next is news, also with the same addresses
		}
	}
	if c.Control != old.Control {
		d.log.Warn("changes to the table [control] take effect on restart")
	}
	d.log.Info("configuration reloaded")
}

func keepOld(log *slog.Logger, err error) {
	const what = "rejected the new configuration; keeping the old one"
	var bad *config.Error
	if !errors.As(err, &bad) {
		log.Error(what, "reason", err)
		return
	}
	for _, p := range bad.Problems {
		log.Error(what, "reason", p.String())
	}
}

// complain logs errors of a tear-down.
func complain(log *slog.Logger, err error) {
	if err != nil {
		log.Error("cannot undo all changes to the host", "reason", err)
	}
}
