package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"tnat64d/datapath/engine"
	"tnat64d/internal/config"
	"tnat64d/internal/control"
	"tnat64d/internal/metrics"
)

// control answers on the control socket until ctx ends; wait waits for that. A
// gateway without a socket cannot be asked, but serves.
func (d *gateway) control(ctx context.Context, c config.Gateway) (wait func(), err error) {
	d.changed = func() {}
	s, err := control.NewServer(c.Control.Socket, backend{d}, d.log)
	if err != nil {
		d.log.Error("no control socket: tnat64ctl cannot reach this gateway", "reason", err)
		s = nil
	}
	var all sync.WaitGroup
	if s != nil {
		d.changed = s.Changed
		all.Go(func() {
			if err := s.Run(ctx); err != nil {
				d.log.Error("the control socket is closed: tnat64ctl cannot reach this gateway", "reason", err)
			}
		})
	}
	if c.Control.Metrics != "" {
		if err := metrics.Serve(ctx, c.Control.Metrics, collector{d}, d.log); err != nil {
			return all.Wait, fmt.Errorf("metrics: %w", err)
		}
	}
	return all.Wait, nil
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

// Trace shows the packets of the NAT64; its TUN stands for an uplink.
func (b backend) Trace(see func(uplink string, p engine.Seen)) error {
	n := b.d.nat64.Load()
	switch {
	case n == nil && see == nil:
		return nil
	case n == nil:
		return errors.New("NAT64 has not started yet")
	case see == nil:
		return n.SetTrace(nil)
	}
	return n.SetTrace(func(p engine.Seen) { see(n.tun, p) })
}

func (backend) Nudge(control.Nudge, control.Peer) error {
	return errors.New("a gateway has nothing to be nudged about")
}
