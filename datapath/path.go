package datapath

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

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

	// progress is how far user space is, by queue; nil: nobody asks.
	progress atomic.Pointer[[]*steer.Progress]

	mu         sync.Mutex
	user       *userEngine // nil before the first SetMapping
	steering   *Steering   // nil: there is none
	gateway    *Gateway    // nil: there is none
	broken     error       // why the gateway's kernel engine must not go on
	mapping    siit.Config // what the kernel engine may translate by; zero: nothing
	translator *siit.Translator
	routes     followedRoutes
	see        func(engine.Seen) // nil: nobody traces
	captured   bool              // a program captures packets on the TUN
	chosen     choice
	past       Stats // of the steerings that were closed
	pastFlows  steer.Flows
}

// Open creates the TUN. It is down, and packets wait for Steer and SetMapping.
func Open(o Options) (*Path, error) {
	device, err := tun.Open(o.TUN, o.Queues)
	if err != nil {
		return nil, err
	}
	return &Path{options: o, device: device, chosen: choice{by: "user"}}, nil
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
	if p.user == nil {
		p.startEngine()
	} else {
		p.user.SetTranslator(p.routed())
	}
	p.mapping = c
	return p.applyMapping()
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
	return first
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

// startEngine starts the user engine. The caller holds p.mu.
func (p *Path) startEngine() {
	queues := make([]engine.Queue, len(p.device.Queues))
	for i, q := range p.device.Queues {
		queues[i] = q
	}
	ctx, cancel := context.WithCancel(context.Background())
	u := &userEngine{
		Engine: engine.New(engine.Options{
			Queues: queues, Translator: p.routed(), ICMPErrorsPerSecond: p.options.ICMPErrorsPerSecond,
			OnRefused: p.options.OnRefused, OnFinished: p.finished, UDPSegments: p.device.Offloads.USO,
		}),
		cancel: cancel, ended: make(chan struct{}),
	}
	u.SetTakesHop(p.steering != nil && p.steering.by.takesHop())
	u.SetTrace(p.see)
	p.user = u
	go func() {
		defer close(u.ended)
		if err := u.Run(ctx); err != nil && p.options.OnFailed != nil {
			p.options.OnFailed(err)
		}
	}()
}

// finished is called when the user engine is done with so many more packets of a
// queue.
func (p *Path) finished(queue, packets int) {
	if all := p.progress.Load(); all != nil {
		(*all)[queue].Finished(packets, p.device.Queues[queue].Empty)
	}
}
