package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"

	"tnat64d/clat"
	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/datapath/steernft"
	"tnat64d/internal/config"
	"tnat64d/internal/say"
	"tnat64d/siit"
	"tnat64d/tun"
)

// datapath makes the CLATs of packages tun, datapath/steer and datapath/engine, and
// adds up what they count while they come and go.
type datapath struct {
	log    *slog.Logger
	handle *netlink.Handle
	failed func(*path, error) // an engine ended by itself

	errorsPerSecond int           // limit on ICMP errors of engines started from now on
	engine          config.Engine // of what is started from now on
	token           steer.Token   // of all CLATs

	mu     sync.Mutex
	paths  map[int]*path // by index of the TUN
	guards map[*guard]bool
	past   stats // of paths and guards that have ended
	see    see   // nil: nobody traces
}

// path is the way of one CLAT's packets. Reconciler closes its parts in the
// reverse order of their making.
type path struct {
	data        *datapath
	device      *tun.Device
	name        string      // of the TUN
	uplink      string      // name, for traces
	index       int         // of the uplink
	steered     string      // "tcx", "clsact" and why, or "nftables"
	translation siit.Config // what the kernel engine was last told
	byWhom      string      // "kernel" or "user"
	whyUser     string
	captured    bool // a program captures packets on the TUN

	// Under data.mu, as statistics are asked for at any time:
	engine *engine.Engine
	kernel *steer.Steering
	nft    *steernft.Steering // in the place of kernel
	past   stats              // of engines that have ended

	progress atomic.Pointer[[]*steer.Progress] // of each queue; nil: nothing is steered

	translator *siit.Translator // of engine, without routes
	routes     []steer.Route    // of the host inside PREF64
	routesLeft int              // that are not followed

	router netip.Addr // what SetRouter was given
	cancel context.CancelFunc
	ended  chan struct{} // closed when engine has
}

func (d *datapath) OpenTUN(name string, queues int) (clat.TUN, error) {
	dev, err := tun.Open(name, queues)
	if err != nil {
		return nil, err
	}
	p := &path{data: d, device: dev, name: name, byWhom: "user"}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paths[dev.Index] = p
	return openTUN{p}, nil
}

// openTUN is the TUN of a path.
type openTUN struct{ *path }

func (t openTUN) Index() int { return t.device.Index }

// Close ends the path and keeps its counts.
func (t openTUN) Close() error {
	d := t.data
	d.mu.Lock()
	d.past = d.past.add(t.stats())
	if d.paths[t.device.Index] == t.path {
		delete(d.paths, t.device.Index)
	}
	d.mu.Unlock()
	return t.device.Close()
}

func (d *datapath) Steer(uplink, tun int, ours []netip.Prefix, g clat.Guarded) (clat.Steering, error) {
	d.mu.Lock()
	p := d.paths[tun]
	d.mu.Unlock()
	s, err := steer.New(steer.Config{
		Uplink: uplink, TUN: tun, Ours: ours, Queues: len(p.device.Queues), KernelEngine: d.engine != config.EngineUser,
		Guarded: steer.Guarded(g), Token: d.token,
	})
	if refused := (*steer.Error)(nil); errors.As(err, &refused) && refused.Refused() && d.engine != config.EngineKernel {
		return d.steerByNFTables(uplink, tun, ours, g, err)
	}
	if err != nil {
		return nil, err
	}
	if refused := s.KernelEngine(); refused != nil && d.engine == config.EngineKernel {
		s.Close()
		return nil, &say.Failure{
			What: `clat.engine is "kernel", and the kernel refuses that engine`,
			Hint: `engine = "auto" goes on in user space where the kernel cannot`,
			Err:  refused,
		}
	}
	if err := p.order(s); err != nil {
		s.Close()
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p.kernel, p.steered, p.index = s, s.Attached(), uplink
	return &steering{Steering: s, path: p}, nil
}

// steering is the Steering of a path.
type steering struct {
	*steer.Steering
	path *path
}

// Close keeps the counters.
func (s *steering) Close() error {
	p := s.path
	p.data.mu.Lock()
	p.past = p.past.add(statsOf(s.Steering))
	p.kernel, p.steered, p.router, p.byWhom = nil, "", netip.Addr{}, "user"
	p.data.mu.Unlock()
	return s.Steering.Close()
}

func (s *steering) SetGuarded(g clat.Guarded) error { return s.Steering.SetGuarded(steer.Guarded(g)) }

func (s *steering) Follow(src netip.Addr, pref64 netip.Prefix, via netip.Addr) error {
	p := s.path
	if _, err := p.followRoutes(src, pref64); err != nil {
		return err
	}
	if err := s.SetRoutes(p.routes); err != nil {
		return err
	}
	// For the rest any address behind the PLAT will do.
	router, err := steer.Router(p.data.handle, p.index, src, pref64.Addr().Next(), via)
	if err != nil || router == p.router {
		return err
	}
	if err := s.SetRouter(router); err != nil {
		return err
	}
	p.router = router
	return nil
}

func (d *datapath) Run(t clat.TUN, tr *siit.Translator) (clat.Engine, error) {
	p := t.(openTUN).path
	var queues []engine.Queue
	for _, q := range p.device.Queues {
		queues = append(queues, q)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.translator = tr
	e := engine.New(engine.Options{Queues: queues, Translator: p.routed(), ICMPErrorsPerSecond: d.errorsPerSecond, OnFinished: p.finished})
	d.mu.Lock()
	p.engine, p.cancel, p.ended = e, cancel, make(chan struct{})
	e.SetTakesHop(p.nft != nil && p.nft.TakesHop())
	p.show()
	d.mu.Unlock()
	go func() {
		defer close(p.ended)
		if err := e.Run(ctx); err != nil {
			d.failed(p, err)
		}
	}()
	return running{p}, nil
}

// running is the Engine of a path.
type running struct{ *path }

func (r running) SetTranslator(t *siit.Translator) {
	r.translator = t
	r.engine.SetTranslator(r.routed())
}

// Close ends the engine. Its queues, and thereby the TUN, close with it.
func (r running) Close() error {
	r.cancel()
	<-r.ended
	r.data.mu.Lock()
	defer r.data.mu.Unlock()
	r.past.user = r.past.user.Add(r.engine.Stats())
	r.engine = nil
	return nil
}

// alive reports whether the engine that p had is still in use.
func (d *datapath) alive(p *path) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return p.engine != nil && d.paths[p.device.Index] == p
}

// byName returns the path whose TUN has that name, or nil.
func (d *datapath) byName(tun string) *path {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.paths {
		if p.name == tun {
			return p
		}
	}
	return nil
}

// of returns what the path's engines have counted since its TUN was opened.
func (d *datapath) of(p *path) stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return p.stats()
}

// Stats returns what all engines have counted since the start.
func (d *datapath) Stats() stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.past
	for _, p := range d.paths {
		s = s.add(p.stats())
	}
	for g := range d.guards {
		s.dropped = s.dropped.add(g.dropped())
	}
	return s
}

// stats is called with data.mu held.
func (p *path) stats() stats {
	s := p.past
	if p.engine != nil {
		s.user = s.user.Add(p.engine.Stats())
	}
	if p.kernel != nil {
		s = s.add(statsOf(p.kernel))
	}
	if p.nft != nil {
		s = s.add(nftStats(p.nft))
	}
	return s
}
