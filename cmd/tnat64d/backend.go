package main

import (
	"context"
	"errors"
	"time"

	"tnat64d/datapath/engine"
	"tnat64d/internal/control"
)

// backend answers for the daemon on the control socket, from many goroutines.
type backend struct{ d *tnat64d }

// patienceWithLoop is how long the loop may take to answer: it never waits for
// anything but the kernel.
const patienceWithLoop = 3 * time.Second

var errBusy = errors.New("the daemon is stopping, or too busy to answer")

// ask runs f in the loop.
func (b backend) ask(f func()) error {
	ctx, cancel := context.WithTimeout(b.d.ctx, patienceWithLoop)
	defer cancel()
	if !b.d.ask(ctx, f) {
		return errBusy
	}
	return nil
}

func (b backend) Status() control.Status {
	ctx, cancel := context.WithTimeout(b.d.ctx, patienceWithLoop)
	defer cancel()
	features := b.d.found.bus.Features(ctx)
	var s control.Status
	if err := b.ask(func() { s = status(b.d) }); err != nil {
		s = control.Status{Version: version, Started: b.d.started, Why: err.Error()}
	}
	s.Features = append(s.Features, features...)
	return s
}

func (b backend) Trace(see func(uplink string, p engine.Seen)) error {
	var failed error
	if see == nil {
		// However long that takes: the kernel engine is waiting for it.
		b.d.ask(b.d.ctx, func() { failed = b.trace(nil) })
		return failed
	}
	if err := b.ask(func() { failed = b.trace(see) }); err != nil {
		return err
	}
	return failed
}

func (b backend) Nudge(n control.Nudge, by control.Peer) error {
	b.d.post(nudged{n, by})
	return nil
}

// trace is called in the loop.
func (b backend) trace(see see) error {
	err := b.d.path.trace(see, b.d.conf.CLAT.Engine)
	b.d.report.changed()
	return err
}
