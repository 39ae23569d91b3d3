package main

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat"
	"tnat64d/clat/engine"
	"tnat64d/clat/steer"
	"tnat64d/cmd/internal/config"
	"tnat64d/siit"
	"tnat64d/tun"
)

// datapath makes the CLAT of packages tun, clat/steer and clat/engine. It is
// the clat.Datapath of the user-space engine, and adds up what engines count
// while they come and go.
type datapath struct {
	handle *netlink.Handle
	failed func(*running, error) // an engine ended by itself
	info   pathInfo              // of what runs now

	errorsPerSecond int           // limit on ICMP errors of engines started from now on
	engine          config.Engine // of what is started from now on

	mu     sync.Mutex // Stats is called by the metrics server as well
	cur    *engine.Engine
	past   engine.Stats // of engines that have ended
	kernel *steer.Steering
	before kernelStats // of kernel engines that have ended
}

// pathInfo is what is worth a word in the log.
type pathInfo struct {
	Steering string // "tcx", or "clsact" and why
	Engine   string // "kernel", or "user" and why
	Offloads string
	Queues   int
}

func (d *datapath) OpenTUN(name string, queues int) (clat.TUN, error) {
	dev, err := tun.Open(name, queues)
	if err != nil {
		return nil, err
	}
	d.info.Offloads, d.info.Queues = dev.Offloads.String(), len(dev.Queues)
	return openTUN{dev}, nil
}

type openTUN struct{ *tun.Device }

func (t openTUN) Index() int { return t.Device.Index }

func (d *datapath) Steer(uplink, tun int, ours []netip.Prefix) (clat.Steering, error) {
	s, err := steer.New(steer.Config{Uplink: uplink, TUN: tun, Ours: ours, KernelEngine: d.engine != config.EngineUser})
	if bpfRefused(err) {
		return nil, &clat.SteeringRefused{Why: strings.TrimPrefix(err.Error(), "steer: "), Err: err}
	}
	if err != nil {
		return nil, err
	}
	if refused := s.KernelEngine(); refused != nil && d.engine == config.EngineKernel {
		s.Close()
		return nil, &failure{
			what: `clat.engine is "kernel", and the kernel refuses that engine`,
			hint: `engine = "auto" goes on in user space where the kernel cannot`,
			err:  refused,
		}
	}
	d.info.Steering = s.Attached()
	d.mu.Lock()
	d.kernel = s
	d.mu.Unlock()
	return &steering{Steering: s, path: d, uplink: uplink}, nil
}

// bpfRefused reports whether BPF as such is not to be had: the kernel loads or
// attaches no program of ours, for another reason than that it is short of
// something at the moment or that the interface has gone.
func bpfRefused(err error) bool {
	var e *steer.Error
	if !errors.As(err, &e) || !strings.HasPrefix(e.Op, "load ") && !strings.HasPrefix(e.Op, "attach ") {
		return false
	}
	for _, passing := range []error{unix.ENOMEM, unix.ENOBUFS, unix.EMFILE, unix.ENFILE, unix.EAGAIN, unix.EINTR, unix.ENODEV, unix.ENXIO} {
		if errors.Is(e.Err, passing) {
			return false
		}
	}
	return true
}

type steering struct {
	*steer.Steering
	path   *datapath
	uplink int
	router netip.Addr // what SetRouter was given
}

// Close keeps the counters.
func (s *steering) Close() error {
	d := s.path
	d.mu.Lock()
	d.before = d.before.add(kernelStatsOf(s.Steering))
	d.kernel = nil
	d.mu.Unlock()
	return s.Steering.Close()
}

func (s *steering) Follow(src, dst netip.Addr) error {
	router, err := steer.Router(s.path.handle, s.uplink, src, dst)
	if err != nil || router == s.router {
		return err
	}
	if err := s.SetRouter(router); err != nil {
		return err
	}
	s.router = router
	return nil
}

// running is an engine at work.
type running struct {
	*engine.Engine
	path   *datapath
	cancel context.CancelFunc
	ended  chan struct{}
}

func (d *datapath) Run(t clat.TUN, tr *siit.Translator) (clat.Engine, error) {
	var queues []engine.Queue
	for _, q := range t.(openTUN).Queues {
		queues = append(queues, q)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{
		Engine: engine.New(engine.Options{Queues: queues, Translator: tr, ICMPErrorsPerSecond: d.errorsPerSecond}),
		path:   d, cancel: cancel, ended: make(chan struct{}),
	}
	d.mu.Lock()
	d.cur = r.Engine
	d.mu.Unlock()
	go func() {
		defer close(r.ended)
		if err := r.Engine.Run(ctx); err != nil {
			d.failed(r, err)
		}
	}()
	return r, nil
}

// Close ends the engine. Its queues, and thereby the TUN, close with it.
func (r *running) Close() error {
	r.cancel()
	<-r.ended
	d := r.path
	d.mu.Lock()
	defer d.mu.Unlock()
	d.past = d.past.Add(r.Stats())
	d.cur = nil
	return nil
}

// current returns the engine at work, or nil.
func (d *datapath) current() *engine.Engine {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cur
}
