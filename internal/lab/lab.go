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

	RDNSS      []netip.Addr // DNS servers in the RAs; default none, or the router with DNS
	NativeIPv4 bool         // the laptop has native IPv4 as well
	Link       netip.Prefix // /64 of the link laptop - router; default 2001:db8:1::/64

	DNS *DNS // the router's resolver; default none, or one with DNS64 where only DNS can tell PREF64

	Kind         Kind // of network; default Ethernet with SLAAC
	Unconfigured bool // the kernel alone configures the laptop, until the caller does; then see WaitOnline

	// How the network is broken, or what else it lacks.
	NoPREF64        bool           // the RAs do not tell PREF64, the PLAT works
	MorePREF64      []netip.Prefix // also in the RAs, each with a PLAT
	DeadPREF64      []netip.Prefix // those of PREF64 and MorePREF64 whose PLAT is dead: see PLATDead
	BlackHole       int            // longer packets (bytes) vanish on the link laptop - router: see SetBlackHole
	BlackHoleISP    int            // and on the link router - isp
	DHCPv6          bool           // the laptop's address is a /128 from DHCPv6: RA with M=1, prefix with A=0
	NoDefaultRouter bool           // the RAs have router lifetime 0
	NDFilter        int            // the access point forwards from so many addresses, those it sees in DAD first; 0: from all

	// Second, if set, is another network, on which the laptop is with another
	// interface, [Uplink2]: as from AddNetwork and AddUplink.
	Second *Options

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
	for _, p := range o.MorePREF64 {
		if err := checkPREF64(p); err != nil {
			return o, err
		}
	}
	if o.Link.IsValid() && (o.Link.Bits() != 64 || !o.Link.Addr().Is6() || o.Link != o.Link.Masked()) {
		return o, fmt.Errorf("link %q is not a /64", o.Link)
	}
	if o.Kind >= numKinds {
		return o, fmt.Errorf("there is no kind %d of network", o.Kind)
	}
	if o.Kind.byHand() && o.DNS == nil {
		o.DNS = &DNS{NoRDNSS: true}
	}
	if o.DNS != nil && !o.DNS.NoRDNSS && o.RDNSS == nil {
		link := o.Link
		if !link.IsValid() {
			link = LaptopLink
		}
		o.RDNSS = []netip.Addr{link.Addr().Next()}
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

// Lab is a running network, or several: its own one is embedded.
type Lab struct {
	*Network
	internet
	uplinks
	clatFinder
	ID     string // "tn64-4711-2ph4-1", see Sweep
	Dir    string // a directory of its own for configuration and sockets
	Laptop *Host
	Second *Network // Options.Second, or nil

	life    context.Context // ends with Close
	stop    context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
	closed  error
	pools   pools // of PLATs

	mu       sync.Mutex
	networks []*Network // the lab's own first
	guests   []*Host
}

// New builds a lab and returns when the laptop has configured its IPv6, unless it is
// Unconfigured: an address, a default route, and duplicate address detection done,
// which takes the kernel two to three seconds. It needs root. On error nothing is left.
func New(ctx context.Context, o Options) (*Lab, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("lab: making network namespaces: %w", os.ErrPermission)
	}
	if _, err := Sweep(); err != nil {
		// It is another lab's, and in the way of nobody.
		o.Log.Warn("cannot remove what a lab has left", "reason", err)
	}
	id, err := newID()
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	l := &Lab{ID: id, Dir: filepath.Join(stateRoot, id)}
	l.internet.lab, l.uplinks.lab, l.clatFinder.lab = l, l, l
	// The context of New bounds the building, not the life of what is built.
	l.life, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.Network = l.describe(1, o)
	l.networks = []*Network{l.Network}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context) error {
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
		func() error { return l.serve(l.life) },
		func() error { return l.start(l.life) },
		func() error {
			_, err := l.carrierOn()
			return err
		},
		func() error { return l.Laptop.up(Uplink) },
		l.configureLaptop,
		func() (err error) {
			if l.options.Second == nil {
				return nil
			}
			if l.Second, err = l.AddNetwork(*l.options.Second); err != nil {
				return err
			}
			return l.AddUplink(Uplink2, l.Second)
		},
		func() error {
			if l.options.Unconfigured {
				return nil
			}
			return l.WaitOnline(ctx)
		},
		func() error {
			if l.Second != nil {
				return l.Second.WaitOnline(ctx)
			}
			return nil
		},
	)
}

// Close takes the lab away: servers, processes started on its hosts,
// interfaces, namespaces. It may be called any number of times.
func (l *Lab) Close() error {
	l.closing.Do(func() {
		l.stop()
		l.mu.Lock()
		hosts, networks := append([]*Host{l.Laptop, l.ISP, l.Server}, l.guests...), l.networks
		l.mu.Unlock()
		for _, n := range networks {
			n.close()
			hosts = append(hosts, n.Router)
		}
		var errs []error
		for _, h := range hosts {
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
