package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"tnat64d/internal/lab"
)

// stage is a contestant with a lab of its own. All stages are up at the same
// time, so that contestants can take turns within a second; those whose turn it
// is not are idle.
type stage struct {
	contestant contestant
	setup      setup
	plat       bool // the network has a NAT64; without one the server owns the synthesised address itself
	lab        *lab.Lab
	service    *service // nil: it does not run

	restarts int   // since the beginning
	out      error // why it was given up
	remark   error // what was odd about its end
	peak     int64 // memory of the translator, bytes
}

// A contestant that had to be started again so often is given up.
const maxRestarts = 8

// startTimeout is what a contestant gets for its start. It covers duplicate
// address detection.
const startTimeout = 20 * time.Second

// pref64 is the network's prefix: not the well-known one, which tayga refuses
// for test networks.
var pref64 = netip.MustParsePrefix("2001:db8:64::/96")

// build makes the stage's lab. For measurements there is no PLAT, so that the
// path holds one translator or none.
func (s *stage) build(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	mtu := s.setup.MTU
	l, err := lab.New(ctx, lab.Options{PREF64: pref64, MTU: mtu, MTUISP: mtu, MTUServer: mtu, NoPLAT: !s.plat})
	if err != nil {
		return err
	}
	s.lab = l
	// Datagrams of which a fragment was lost are to go before they fill the
	// memory for fragments and spoil the next measurement.
	for _, name := range []string{"net.ipv4.ipfrag_time", "net.ipv6.ip6frag_time"} {
		for _, h := range []*lab.Host{l.Laptop, l.Server} {
			if err := h.Sysctl(name, "1"); err != nil {
				return err
			}
		}
	}
	return nil
}

// start brings the contestant up and sees whether it carries anything: a byte
// in TCP, there and back.
func (s *stage) start(ctx context.Context, g *generator) error {
	limit, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	service, err := s.contestant.start(limit, s.lab, s.setup)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	s.service = service
	brief := *g
	brief.warm, brief.win = 0, 10*time.Millisecond
	if _, err := brief.measure(limit, s, load{ID: "canary", Unit: roundTrips, Args: []string{"round-trip-tcp"}}); err != nil {
		return s.failed(ctx, fmt.Errorf("it has started but carries nothing: %w", err))
	}
	return nil
}

// stop takes the contestant down. The lab stays.
func (s *stage) stop() error {
	if s.service == nil {
		return nil
	}
	service := s.service
	s.service = nil
	if _, peak, err := readMemory(service.pid); err == nil { // it may have ended
		s.peak = max(s.peak, peak)
	}
	return service.stop()
}

// close takes everything down. The error is about the lab; what the contestant
// had to say at its end is its remark.
func (s *stage) close() error {
	s.remark = s.stop()
	if s.lab == nil {
		return nil
	}
	return s.lab.Close()
}

// try makes a measurement. A contestant that failed the last one is started
// again, and given up if that does not help. The error says what happened, with
// the last output.
func (s *stage) try(ctx context.Context, g *generator, ld load) (sample, error) {
	if s.out == nil && s.service == nil {
		s.revive(ctx, g)
	}
	if s.out != nil {
		return sample{}, s.out
	}
	r, err := g.measure(ctx, s, ld)
	if err != nil {
		return r, s.failed(ctx, err)
	}
	r.Contestant = s.contestant.id()
	return r, nil
}

// revive starts the contestant, twice if it must be, or gives it up.
func (s *stage) revive(ctx context.Context, g *generator) {
	var err error
	for range 2 {
		if s.restarts++; s.restarts > maxRestarts {
			err = fmt.Errorf("it had to be started again %d times", maxRestarts)
			break
		}
		if err = s.start(ctx, g); err == nil || ctx.Err() != nil {
			return
		}
	}
	s.out = fmt.Errorf("given up: %w", err)
}

// failed takes down what failed and returns the error with the last output.
func (s *stage) failed(ctx context.Context, err error) error {
	if s.service == nil || ctx.Err() != nil {
		return err
	}
	select {
	case <-s.service.exited:
	case <-time.After(50 * time.Millisecond): // a load may notice sooner than we do
	}
	output, ended := s.service.output, s.service.ended()
	if ended && !errors.Is(err, errTranslatorEnded) {
		err = fmt.Errorf("%w, %w", err, errTranslatorEnded)
	}
	if how := s.stop(); ended && how != nil {
		err = fmt.Errorf("%w: %w", err, how)
	}
	if text := output.String(); text != "" {
		err = fmt.Errorf("%w; its last output:\n%s", err, text)
	}
	return err
}

// raise builds and starts all stages, several at a time as most of it is
// waiting. What does not come up is given up by itself.
func raise(ctx context.Context, g *generator, stages []*stage) error {
	var all sync.WaitGroup
	turn := make(chan struct{}, 8)
	errs := make([]error, len(stages))
	for i, s := range stages {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			// A lab that cannot be built is our failure, not the contestant's.
			if errs[i] = s.build(ctx); errs[i] == nil {
				s.restarts = -1 // the first start is none
				s.revive(ctx, g)
			}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// closeAll takes all stages down.
func closeAll(stages []*stage) error {
	var all sync.WaitGroup
	errs := make([]error, len(stages))
	for i, s := range stages {
		all.Go(func() {
			errs[i] = s.close()
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
