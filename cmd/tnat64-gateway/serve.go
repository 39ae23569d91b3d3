package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"tnat64d/internal/config"
	"tnat64d/internal/control"
	"tnat64d/internal/daemon"
	"tnat64d/internal/fdstore"
	"tnat64d/plat"
	"tnat64d/plat/advertise"
)

// gateway is the daemon: NAT64, DNS64 and router advertisements.
type gateway struct {
	file    string
	setup   bool // set the sysctls that are missing
	log     *slog.Logger
	started time.Time

	handover plat.Handover  // from one NAT64 to the next
	store    *fdstore.Store // nil: no service manager
	trace    trace

	// Of the present parts; nil where there is none.
	nat64     atomic.Pointer[nat64Part]
	dns64     atomic.Pointer[dnsPart]
	advertise atomic.Pointer[advertisePart]

	socket atomic.Pointer[control.Server] // nil: there is none
}

// part is one of the three. Run works until ctx ends and undoes what it did; an
// error before that ends the daemon.
type part interface {
	Run(ctx context.Context) error
}

// serve runs the parts that c names until ctx ends or one of them fails, and
// starts them anew with another configuration on SIGHUP, with the old one again if
// NAT64 does not come up with that. Maps and connections outlast that.
func (d *gateway) serve(ctx context.Context, c config.Gateway) error {
	if d.setup {
		set, err := plat.SetForwarding(c.Advertise.Interfaces)
		for _, s := range set {
			d.log.Info("set a sysctl for a router", "sysctl", s.Name, "value", s.Value)
		}
		if err != nil {
			return err
		}
	}
	defer d.leave()
	d.started = time.Now()
	parts, err := d.parts(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked := newEndpoints(d)
	defer asked.close()
	if err := asked.set(ctx, c.Control); err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	var old *config.Gateway // the last configuration that has worked before c, if any
	for {
		next, err := d.runUntilHangup(ctx, parts, hup)
		switch {
		case translated(parts):
			worked := c
			old = &worked
		case next == nil && old != nil && ctx.Err() == nil:
			d.log.Error("the new configuration does not work; going back to the old one", "reason", err)
			next, err = d.goBack(*old)
			old = nil
		}
		if next == nil {
			daemon.Notify(d.log, systemd.SdNotifyStopping)
			return err
		}
		parts, c = next.parts, next.config
		if err := asked.set(ctx, c.Control); err != nil {
			d.log.Error("cannot apply the new [control] table", "reason", err)
		}
	}
}

// goBack makes the parts of a configuration that has worked anew.
func (d *gateway) goBack(c config.Gateway) (*successor, error) {
	parts, err := d.parts(c)
	if err != nil {
		return nil, err
	}
	return &successor{parts, c}, nil
}

// translated reports whether the NAT64 among the parts has been up.
func translated(parts []part) bool {
	return slices.ContainsFunc(parts, func(p part) bool {
		n, ok := p.(*nat64Part)
		return ok && n.up.Load()
	})
}

// runUntilHangup runs the parts, and returns those that come after them, if any.
func (d *gateway) runUntilHangup(ctx context.Context, parts []part, hup <-chan os.Signal) (next *successor, err error) {
	parent := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		g.Go(func() error { return p.Run(ctx) })
	}
	for next == nil && ctx.Err() == nil {
		select {
		case <-hup:
			next = d.reload()
		case <-ctx.Done():
		}
	}
	// The network keeps its default route over a reload.
	var after []part
	if next != nil {
		after = next.parts
	}
	cancel(&advertise.Successor{Links: advertisedLinks(after)})
	if err := g.Wait(); err != nil || parent.Err() != nil {
		return nil, errors.Join(err, withdraw(after))
	}
	return next, nil
}

// withdraw has the advertisers of parts that never run withdraw the router: those
// before them have left it to them.
func withdraw(parts []part) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, p := range parts {
		if p, ok := p.(*advertisePart); ok {
			return p.Run(ended)
		}
	}
	return nil
}

// parts makes the parts that c names. Making one touches nothing on the host.
func (d *gateway) parts(c config.Gateway) (all []part, err error) {
	n, err := d.newNAT64(c)
	if err != nil {
		return nil, err
	}
	n.ready = func() {
		n.up.Store(true)
		d.nat64.Store(n)
		if err := d.trace.follow(n); err != nil {
			d.log.Warn("packets are no longer traced", "reason", err)
		}
		s := n.Status()
		d.log.Info("NAT64 is up", "prefix", c.NAT64.Prefix, "pool", c.NAT64.Pool, "nat44", c.NAT64.NAT44,
			"inside", c.NAT64.Inside, "outside", s.Outside, "engine", s.Path.Engine, "queues", s.Path.Queues, "offloads", s.Path.Offloads)
		daemon.Notify(d.log, systemd.SdNotifyReady)
		d.changed()
	}
	all = append(all, n)
	for _, make := range []func(config.Gateway) (part, error){d.newDNS64, d.newAdvertise} {
		p, err := make(c)
		if err != nil {
			return nil, err
		}
		if p != nil {
			all = append(all, p)
		}
	}
	return all, nil
}
