package main

import (
	"errors"
	"log/slog"
	"time"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/datapath"
	"tnat64d/datapath/steer"
	"tnat64d/internal/config"
	"tnat64d/internal/daemon"
)

// opener makes the packet paths and guards of the CLATs.
type opener struct {
	made   *datapaths // what it has made
	log    *slog.Logger
	start  *daemon.Startup
	failed func(*path, error) // a user engine ended by itself

	errorsPerSecond int           // limit on ICMP errors of engines started from now on
	engine          config.Engine // of what is opened from now on
	token           steer.Token   // of all CLATs
	programs        *steer.Programs
	store           *store       // nil: nothing outlives this process
	inherited       *inheritance // nil: nothing
	ready           map[plan.Uplink]*datapath.Prepared
}

// engines are the settings of both vocabularies.
var engines = map[config.Engine]datapath.Engine{
	config.EngineAuto: datapath.EngineAuto, config.EngineKernel: datapath.EngineKernel, config.EngineUser: datapath.EngineUser,
}

func (o *opener) Open(name string, queues int, uplink plan.Uplink) (clat.Path, error) {
	p := &path{tun: name}
	options := o.options(queues)
	options.TUN, options.OnFailed, options.Device = name, func(err error) { o.failed(p, err) }, o.inherited.take(name, queues)
	options.Prepared = o.ready[uplink]
	delete(o.ready, uplink)
	made, err := datapath.Open(options)
	if err != nil {
		return nil, errors.Join(err, options.Prepared.Close())
	}
	p.packetPath = made
	p.made = made
	o.made.add(p)
	return clatPath{made, p, o.made, o.start}, nil
}

// options returns those of a path with that number of queues.
func (o *opener) options(queues int) datapath.Options {
	return datapath.Options{
		Queues: queues, Engine: engines[o.engine], Token: o.token, Programs: o.programs, Netlink: o.made.handle, Log: o.log,
		ICMPErrorsPerSecond: o.errorsPerSecond, Inherited: o.inherited.links(), Store: o.keeper(),
	}
}

// stepLimit is how long loading one set of BPF programs may take, while the loop
// answers nothing. On an emulated machine with an eighth of a CPU the verifier takes
// some minutes.
const stepLimit = 10 * time.Minute

// Prepare loads the BPF programs for the next path to an uplink. Where that fails
// it is not tried again: opening the path will say why.
func (o *opener) Prepare(uplink plan.Uplink, queues int) {
	options := o.options(queues)
	if o.ready[uplink].Fits(options, uplink.Index) {
		return
	}
	o.Unprepare(uplink)
	done := o.start.Extend(stepLimit)
	p, err := datapath.Prepare(options, uplink.Index)
	done()
	if err != nil {
		o.log.Debug("cannot load BPF programs in advance", "iface", uplink.Name, "reason", err)
	}
	if o.ready == nil {
		o.ready = map[plan.Uplink]*datapath.Prepared{}
	}
	o.ready[uplink] = p
}

// Unprepare unloads what Prepare has loaded.
func (o *opener) Unprepare(uplink plan.Uplink) {
	if err := o.ready[uplink].Close(); err != nil {
		o.log.Debug("cannot unload BPF programs", "iface", uplink.Name, "reason", err)
	}
	delete(o.ready, uplink)
}

func (o *opener) Guard(link int, addrs clat.Guarded) (clat.Guard, error) {
	defer o.start.Extend(stepLimit)()
	made, err := datapath.NewGuard(steer.GuardConfig{
		Link: link, Guarded: steer.Guarded(addrs), Token: o.token, Programs: o.programs, Inherited: o.inherited.links(), Store: o.keeper(),
	})
	if err != nil {
		return nil, err
	}
	g := &guard{made, o.made}
	o.made.mu.Lock()
	defer o.made.mu.Unlock()
	o.made.guards = append(o.made.guards, g)
	return g, nil
}

// useStore says where paths are kept for the next process, and what there is of the
// former one. Both may be nil.
func (o *opener) useStore(s *store, former *inheritance) {
	o.store, o.inherited = s, former
	if former != nil && former.token != 0 {
		o.token = former.token // of the packets of programs that are still in force
		return
	}
	if s != nil {
		s.note(s.keepToken(o.token))
	}
}

// keeper returns the store, if there is one.
func (o *opener) keeper() steer.Store {
	if o.store == nil {
		return nil
	}
	return o.store
}

// kept reports whether the store has all that carries packets, and something does.
func (o *opener) kept() bool {
	return o.store != nil && len(o.made.all())+len(o.inherited.list()) > 0 && o.made.kept()
}
