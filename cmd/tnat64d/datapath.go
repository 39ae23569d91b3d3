package main

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/datapath"
	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/internal/daemon"
	"tnat64d/internal/say"
)

// datapaths are the packet paths and guards of the CLATs. They add up what those
// count while they come and go.
type datapaths struct {
	log    *slog.Logger
	handle *netlink.Handle // of the network namespace

	mu     sync.Mutex
	paths  []*path
	guards []*guard
	past   datapath.Stats // of paths and guards that were closed
	see    see            // nil: nobody traces
}

// packetPath is what a path reports, and how it is traced.
type packetPath interface {
	Status() datapath.Status
	Stats() datapath.Stats
	Flows() steer.Flows
	SetTrace(func(engine.Seen)) error
	FollowCaptures() (changed, captured bool, err error)
}

// path is a CLAT's packet path.
type path struct {
	packetPath
	made   *datapath.Path
	tun    string // name
	uplink string // name, for traces
}

// clatPath is a path as package clat wants it.
type clatPath struct {
	*datapath.Path
	path  *path
	all   *datapaths
	start *daemon.Startup
}

func (p clatPath) Steer(uplink int, ours []netip.Prefix, share clat.Share, begun clat.Begun, g clat.Guarded) (clat.Steering, error) {
	c := datapath.SteeringConfig{Uplink: uplink, Ours: ours, Guarded: steer.Guarded(g), Share: steerShare(share),
		TranslatorFlows: steerFlows(begun.CLAT), HostFlows: steerFlows(begun.Host)}
	done := p.start.Extend(stepLimit)
	s, err := p.Path.Steer(c)
	done()
	var refused *datapath.Refused
	var engine *datapath.EngineRefused
	switch {
	case errors.As(err, &refused):
		return nil, &clat.SteeringRefused{Why: refused.Why, Err: refused.Err, Sharing: refused.Sharing}
	case errors.As(err, &engine):
		return nil, &say.Failure{
			What: `clat.engine is "kernel", and the kernel refuses that engine`,
			Hint: `set engine = "auto" to translate in user space where the kernel refuses`,
			Err:  engine.Err,
		}
	case err != nil:
		return nil, err
	}
	return clatSteering{s}, nil
}

// Close keeps the counts.
func (p clatPath) Close() error {
	err := p.Path.Close()
	d := p.all
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.paths, p.path); i >= 0 {
		d.paths = slices.Delete(d.paths, i, i+1)
		d.past = d.past.Add(p.Stats())
	}
	return err
}

// clatSteering is a steering as package clat wants it.
type clatSteering struct{ *datapath.Steering }

func (s clatSteering) SetGuarded(g clat.Guarded) error {
	return s.Steering.SetGuarded(steer.Guarded(g))
}

func (s clatSteering) SetShared(to clat.Share) error { return s.Steering.SetShared(steerShare(to)) }

func (s clatSteering) SetNext(n clat.Next, pref64 netip.Prefix, begun func() []plan.Connection) error {
	return s.Steering.SetNext(n.Main, n.Addr, n.Via, pref64, func() []steer.Flow { return steerFlows(begun()) })
}

func (s clatSteering) KeepsMain(c plan.Connection) bool { return s.Steering.KeepsMain(steer.Flow(c)) }

// The packages agree on how many flows may have begun.
var _ = [1]struct{}{}[steer.MaxBegan-clat.MaxBegan]

func steerFlows(cs []plan.Connection) (fs []steer.Flow) {
	for _, c := range cs {
		fs = append(fs, steer.Flow(c))
	}
	return fs
}

func steerShare(s clat.Share) steer.Share { return steer.Share(s) }

// guard is a guard as package clat wants it.
type guard struct {
	*datapath.Guard
	all *datapaths
}

func (g *guard) SetGuarded(to clat.Guarded) error { return g.Guard.SetGuarded(steer.Guarded(to)) }

// Close keeps the counts.
func (g *guard) Close() error {
	err := g.Guard.Close()
	d := g.all
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.guards, g); i >= 0 {
		d.guards = slices.Delete(d.guards, i, i+1)
		d.past.Dropped = d.past.Dropped.Add(g.Dropped())
	}
	return err
}

// add takes in a path that has been opened. It translates nothing yet.
func (d *datapaths) add(p *path) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paths = append(d.paths, p)
	if d.see != nil {
		_ = d.show(p)
	}
}

// kept reports whether all paths and guards are in the store of the service manager.
func (d *datapaths) kept() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !slices.ContainsFunc(d.paths, func(p *path) bool { return !p.made.Kept() }) && !slices.ContainsFunc(d.guards, func(g *guard) bool { return !g.Kept() })
}

// leave ends the user engines and leaves the rest to the next process.
func (d *datapaths) leave() error {
	var errs []error
	for _, p := range d.all() {
		errs = append(errs, p.made.Leave())
	}
	return errors.Join(errs...)
}

// alive reports whether p has not been closed.
func (d *datapaths) alive(p *path) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.paths, p)
}

// byName returns the path whose TUN has that name, or nil.
func (d *datapaths) byName(tun string) *path {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.IndexFunc(d.paths, func(p *path) bool { return p.tun == tun }); i >= 0 {
		return d.paths[i]
	}
	return nil
}

// all returns the paths that are open.
func (d *datapaths) all() []*path {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.paths)
}

// Stats returns what all paths and guards have counted since the start.
func (d *datapaths) Stats() datapath.Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.past
	for _, p := range d.paths {
		s = s.Add(p.Stats())
	}
	for _, g := range d.guards {
		s.Dropped = s.Dropped.Add(g.Dropped())
	}
	return s
}
