package main

import (
	"context"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"tnat64d/internal/config"
)

// gateway is the daemon: NAT64, DNS64 and router advertisements.
type gateway struct {
	file  string
	setup bool // set the sysctls that are missing
	log   *slog.Logger
}

// part is one of the three. Run works until ctx ends and undoes what it did; an
// error before that ends the daemon.
type part interface {
	Run(ctx context.Context) error
}

// serve runs the parts that c names until ctx ends or one of them fails.
func (d *gateway) serve(ctx context.Context, c config.Gateway) error {
	parts, err := d.parts(c)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		g.Go(func() error { return p.Run(ctx) })
	}
	return g.Wait()
}

// parts makes the parts that c names. Making one touches nothing on the host.
func (d *gateway) parts(c config.Gateway) (all []part, err error) {
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
