package main

import (
	"context"
	"errors"
	"fmt"

	"tnat64d/datapath/engine"
	"tnat64d/internal/config"
	"tnat64d/internal/control"
	"tnat64d/internal/metrics"
)

// endpoints are where the gateway can be asked: the control socket and the
// metrics. They outlast a reload that leaves them as they are.
type endpoints struct {
	d      *gateway
	config config.Control
	// Each ends what it names and waits for that, as far as others depend on it.
	endSocket, endMetrics func()
}

func newEndpoints(d *gateway) *endpoints {
	return &endpoints{d: d, endSocket: func() {}, endMetrics: func() {}}
}

// set opens what c names, and closes what it no longer does. A gateway without a
// socket cannot be asked, but serves.
func (e *endpoints) set(ctx context.Context, c config.Control) error {
	was := e.config
	e.config = c
	if c.Socket != was.Socket {
		e.endSocket()
		e.endSocket = e.d.openSocket(ctx, c.Socket)
	}
	if c.Metrics == was.Metrics {
		return nil
	}
	e.endMetrics()
	e.endMetrics = func() {}
	if c.Metrics == "" {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	e.endMetrics = cancel
	if err := metrics.Serve(ctx, c.Metrics, collector{e.d}, e.d.log); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// close closes everything.
func (e *endpoints) close() {
	e.endSocket()
	e.endMetrics()
}

// openSocket answers on the control socket until end is called.
func (d *gateway) openSocket(ctx context.Context, path string) (end func()) {
	s, err := control.NewServer(control.GatewayDaemon, path, backend{d}, d.log)
	if err != nil {
		d.log.Error("no control socket: tnat64ctl cannot reach this gateway", "reason", err)
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	d.socket.Store(s)
	go func() {
		defer close(ended)
		if err := s.Run(ctx); err != nil {
			d.log.Error("the control socket is closed: tnat64ctl cannot reach this gateway", "reason", err)
		}
	}()
	return func() {
		d.socket.CompareAndSwap(s, nil)
		cancel()
		<-ended
	}
}

// changed tells those who watch.
func (d *gateway) changed() {
	if s := d.socket.Load(); s != nil {
		s.Changed()
	}
}

// backend answers for the gateway on the control socket.
type backend struct{ d *gateway }

func (b backend) Status() control.Status {
	s := control.Status{Version: version, Started: b.d.started, Config: b.d.file, Gateway: &control.Gateway{}}
	if n := b.d.nat64.Load(); n != nil {
		*s.Gateway = gatewayStatus(n.Status())
	}
	s.Gateway.DNS64, s.Gateway.Advertise = dns64Status(b.d.dns64.Load()), advertiseStatus(b.d.advertise.Load())
	return s
}

func (b backend) Trace(see func(uplink string, p engine.Seen)) error { return b.d.trace.set(see) }

func (backend) Nudge(control.Nudge, control.Peer) error {
	return errors.New("a gateway accepts no nudges")
}
