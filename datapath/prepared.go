package datapath

import (
	"math/rand/v2"

	"tnat64d/datapath/steer"
)

// Prepared makes [Open] and [Path.Steer] fast: the BPF programs are loaded, for an
// uplink and for a TUN with an interface index that is not in use. Nothing of it is
// visible on the host. The nil Prepared has nothing.
type Prepared struct {
	uplink, queues int
	engine         Engine
	index          int // that the TUN is to get
	programs       *steer.Prepared
}

// Interface indexes that the kernel does not reach by counting.
const (
	firstIndex = 1 << 24
	lastIndex  = 1 << 30
)

// Prepare loads the programs of a path with these options to the uplink with that
// interface index. The TUN need not have a name yet. The caller closes the result,
// after the Path that it is given to.
func Prepare(o Options, uplink int) (*Prepared, error) {
	p := &Prepared{uplink: uplink, queues: o.Queues, engine: o.Engine, index: firstIndex + rand.IntN(lastIndex-firstIndex)}
	var err error
	p.programs, err = steer.Prepare(o.steer(SteeringConfig{Uplink: uplink}, p.index, o.Queues))
	return p, err
}

// Fits reports whether p is of use to a path with these options.
func (p *Prepared) Fits(o Options, uplink int) bool {
	return p != nil && p.uplink == uplink && p.queues == o.Queues && p.engine == o.Engine
}

// Close unloads what no path has taken.
func (p *Prepared) Close() error {
	if p == nil {
		return nil
	}
	return p.programs.Close()
}

// tunIndex returns the interface index that a TUN is to get, or 0.
func (p *Prepared) tunIndex() int {
	if p == nil {
		return 0
	}
	return p.index
}

// loaded returns the programs, or nil.
func (p *Prepared) loaded() *steer.Prepared {
	if p == nil {
		return nil
	}
	return p.programs
}

// steer returns how package steer does what c wants, with a TUN of that index and
// number of queues.
func (o Options) steer(c SteeringConfig, tun, queues int) steer.Config {
	return steer.Config{
		Uplink: c.Uplink, TUN: tun, Ours: c.Ours, Queues: queues, KernelEngine: o.Engine != EngineUser,
		Guarded: c.Guarded, Token: o.Token, Programs: o.Programs, Store: o.Store, Inherited: o.Inherited, Prepared: o.Prepared.loaded(),
		Share: c.Share, TranslatorFlows: c.TranslatorFlows, HostFlows: c.HostFlows,
	}
}
