package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Options of a lab. The zero value of each means the default.
type Options struct {
	PREF64         netip.Prefix  // default 64:ff9b::/96; must not overlap the lab's links
	PREF64Lifetime time.Duration // in the RAs; default 10 minutes
	RouterLifetime time.Duration // default 30 minutes

	MTU       int // of the link laptop - router; default 1500, at least 1280
	MTUISP    int // of the link router - isp, beyond the PLAT; default 1500
	MTUServer int // of the link isp - server; default 1500
	RAMTU     int // MTU option of the RAs; default none

	RDNSS      []netip.Addr // DNS servers in the RAs; default none
	NativeIPv4 bool         // the laptop has native IPv4 as well

	// NoPLAT leaves out the NAT64: IPv6 goes on to the server, which owns the
	// synthesised address of its IPv4 address. It shows what a CLAT costs
	// without what a PLAT costs. Only the server's own address is reachable.
	NoPLAT bool

	Log *slog.Logger // what the router does, for debugging; default none
}

// Check reports whether a lab can be built with these options.
func (o Options) Check() error {
	_, err := o.withDefaults()
	return err
}

func (o Options) withDefaults() (Options, error) {
	if !o.PREF64.IsValid() {
		o.PREF64 = WellKnownPrefix
	}
	if err := checkPREF64(o.PREF64); err != nil {
		return o, err
	}
	if o.PREF64Lifetime == 0 {
		o.PREF64Lifetime = 10 * time.Minute
	}
	if o.RouterLifetime == 0 {
		o.RouterLifetime = 30 * time.Minute
	}
	for _, m := range []struct {
		mtu  *int
		name string
		min  int
	}{
		{&o.MTU, "laptop - router", 1280}, // IPv6 needs it (RFC 8200 section 5)
		{&o.MTUISP, "router - isp", 68},   // IPv4 does not (RFC 791)
		{&o.MTUServer, "isp - server", 68},
	} {
		if *m.mtu == 0 {
			*m.mtu = 1500
		}
		if *m.mtu < m.min || *m.mtu > 65535 {
			return o, fmt.Errorf("MTU %d of the link %s is not between %d and 65535", *m.mtu, m.name, m.min)
		}
		if o.NoPLAT && *m.mtu < 1280 {
			return o, fmt.Errorf("MTU %d of the link %s is too small for IPv6, which goes all the way without a PLAT", *m.mtu, m.name)
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Lab is a running network.
type Lab struct {
	ID                          string // "tn64-4711-2ph4-1", see Sweep
	Dir                         string // a directory of its own for configuration and sockets
	Laptop, Router, ISP, Server *Host

	options Options
	plat    *plat
	adverts *advertiser
	stop    context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
	closed  error

	mu      sync.Mutex
	pref64  netip.Prefix
	advert  Advert
	message []byte // advert on the wire
	silent  bool
}

// New builds a lab and returns when the laptop has configured its IPv6: an
// address, a default route, and duplicate address detection done, which takes
// the kernel two to three seconds. It needs root. On error nothing is left.
func New(ctx context.Context, o Options) (*Lab, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("lab: making network namespaces: %w", os.ErrPermission)
	}
	if _, err := Sweep(); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	id, err := newID()
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	l := &Lab{ID: id, Dir: filepath.Join(stateRoot, id), options: o, pref64: o.PREF64}
	// The context of New bounds the building, not the life of what is built.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	if err := l.build(ctx, running); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) build(ctx, running context.Context) error {
	if err := makeState(l.Dir); err != nil {
		return err
	}
	for _, h := range []struct {
		name string
		host **Host
	}{{"laptop", &l.Laptop}, {"router", &l.Router}, {"isp", &l.ISP}, {"server", &l.Server}} {
		var err error
		if *h.host, err = newHost(l.ID, h.name); err != nil {
			return err
		}
	}
	return steps(
		l.wire,
		func() error { return l.startPLAT(running) },
		func() error { return l.routePREF64(l.pref64) },
		func() error { return l.serve(running) },
		func() error { return l.startAdvertising(running) },
		func() error { return l.Laptop.up(Uplink) },
		func() error {
			if l.options.NativeIPv4 {
				return l.SetNativeIPv4(true)
			}
			return nil
		},
		func() error { return l.waitOnline(ctx) },
	)
}

func (l *Lab) startAdvertising(running context.Context) error {
	adverts, err := newAdvertiser(l.Router)
	if err != nil {
		return err
	}
	l.adverts = adverts
	first := Advert{
		RouterLifetime: l.options.RouterLifetime,
		Prefix:         LaptopLink, Valid: 24 * time.Hour, Preferred: 4 * time.Hour,
		PREF64: []PREF64{{l.pref64, l.options.PREF64Lifetime}},
		MTU:    l.options.RAMTU,
		RDNSS:  l.options.RDNSS,
	}
	l.running.Go(func() { l.advertise(running) })
	return l.SetAdvert(first)
}

// Close takes the lab away: servers, processes started on its hosts,
// interfaces, namespaces. It may be called any number of times.
func (l *Lab) Close() error {
	l.closing.Do(func() {
		l.stop()
		var errs []error
		for _, h := range []*Host{l.Laptop, l.Router, l.ISP, l.Server} {
			if h != nil {
				errs = append(errs, h.close())
			}
		}
		l.running.Wait()
		errs = append(errs, os.RemoveAll(l.Dir))
		os.Remove(stateRoot) // if this was the last lab
		l.closed = errors.Join(errs...)
	})
	return l.closed
}
