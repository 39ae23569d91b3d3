package datapath

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/vishvananda/netlink"

	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/siit"
	"tnat64d/tun"
)

// Engine says which engine translates.
type Engine uint8

const (
	EngineAuto   Engine = iota // the kernel what it can, user space the rest
	EngineKernel               // as EngineAuto, and a kernel that refuses is an error
	EngineUser                 // user space
)

// Options say what a Path is made of.
type Options struct {
	TUN    string // name of the interface, which must not exist
	Queues int    // of the TUN
	Engine Engine
	Token  steer.Token // the same for all paths and guards of a process

	Programs *steer.Programs // is told of the BPF programs attached; may be nil

	// Store, if not nil, keeps what the next process takes over. Device and Inherited
	// are what the former one has left: a TUN with that name and those queues, nil to
	// make one, and BPF links and maps, which may be nil.
	Store     steer.Store
	Device    *tun.Device
	Inherited *steer.Inherited

	// Prepared, if not nil, has programs that are loaded already.
	Prepared *Prepared

	// Netlink is a handle of the network namespace. The Path does not close it.
	Netlink *netlink.Handle
	Log     *slog.Logger

	// See [engine.Options].
	ICMPErrorsPerSecond int
	OnRefused           func(packet []byte, refused siit.Result) (again bool, better siit.Reason)

	// OnFailed, if set, is called when the user engine ends although nobody has
	// closed the Path. The error wraps os.ErrClosed if the TUN was removed.
	OnFailed func(error)
}

// Path is a packet path. Stats, Status and SetTrace may be called at any time;
// the other methods by one goroutine at a time.
type Path struct {
	options Options
	device  *tun.Device
	stored  storedQueues

	order queueOrder

	mu         sync.Mutex
	user       *userEngine // nil before the first SetMapping
	steering   *Steering   // nil: there is none
	gateway    *Gateway    // nil: there is none
	mapping    siit.Config // what the kernel engine may translate by; zero: nothing
	translator *siit.Translator
	routes     followedRoutes
	pauses     pauses
	chosen     choice
	past       Stats // of the steerings that were closed
	pastFlows  steer.Flows
}

// Open creates the TUN, unless there is one of a former process. It is down, and
// packets wait for Steer and SetMapping.
func Open(o Options) (_ *Path, err error) {
	device := o.Device
	if device == nil {
		if device, err = tun.OpenAt(o.TUN, o.Queues, o.Prepared.tunIndex()); err != nil {
			return nil, err
		}
	}
	return &Path{options: o, device: device, stored: storedQueues{store: o.Store, device: device, kept: o.Device != nil}, order: queueOrder{device: device}, chosen: choice{by: "user"}}, nil
}

// Index returns the interface index of the TUN.
func (p *Path) Index() int { return p.device.Index }

// SetMapping translates by c from now on. The first call starts the user engine.
// A packet sees one mapping or the other.
func (p *Path) SetMapping(c siit.Config) error {
	t, err := siit.New(c)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.translator = t
	// What the kernel engine declines goes to the user engine, so that is told first.
	routed := p.routes.apply(t)
	if p.user == nil {
		o := engine.Options{
			Translator: routed, ICMPErrorsPerSecond: p.options.ICMPErrorsPerSecond,
			OnRefused: p.options.OnRefused, OnFinished: p.order.finished, UDPSegments: p.device.Offloads.USO,
		}
		for _, q := range p.device.Queues {
			o.Queues = append(o.Queues, q)
		}
		p.user = &userEngine{Engine: engine.New(o)}
		p.user.SetTakesHop(p.steering != nil && p.steering.by.takesHop())
		p.user.SetTrace(p.pauses.trace)
		p.user.start(p.options.OnFailed)
	} else {
		p.user.SetTranslator(routed)
	}
	p.mapping = c
	if err := p.applyMapping(); err != nil {
		return err
	}
	return p.steering.attach()
}

// Close ends the engines and the steering and removes the TUN, with its
// addresses and routes. Nothing of the Path is left, whatever the error.
func (p *Path) Close() error {
	p.mu.Lock()
	user, s, g := p.user, p.steering, p.gateway
	p.mu.Unlock()
	if user != nil {
		user.stop()
	}
	var first error
	if s != nil {
		first = s.Close()
	}
	if g != nil {
		first = errors.Join(first, g.Close())
	}
	if err := p.device.Close(); first == nil {
		first = err
	}
	p.stored.drop(max(p.options.Queues, len(p.device.Queues))) // some may be closed
	if s != nil {
		first = errors.Join(first, p.options.Inherited.Remove(s.uplink))
	}
	return errors.Join(first, p.options.Inherited.Remove(p.device.Index))
}

// userEngine is the user engine at work.
type userEngine struct {
	*engine.Engine
	cancel context.CancelFunc
	ended  chan struct{} // closed when Run has returned
}

// stop waits for the engine to end. Its queues, and thereby the TUN, close with
// it.
func (u *userEngine) stop() {
	u.cancel()
	<-u.ended
}

// start runs the engine. onFailed may be nil: see [Options].
func (u *userEngine) start(onFailed func(error)) {
	ctx, cancel := context.WithCancel(context.Background())
	u.cancel, u.ended = cancel, make(chan struct{})
	go func() {
		defer close(u.ended)
		if err := u.Run(ctx); err != nil && onFailed != nil {
			onFailed(err)
		}
	}()
}
