package steer

import (
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/datapath/steerable"
)

// Prepared holds programs and maps in the kernel for a [Steering] that is not
// needed yet, attached nowhere. Loading them takes most of the time of [New]. Its
// methods may be called on a nil Prepared, which has nothing.
type Prepared struct {
	c       constants
	engine  bool
	objects *objects // nil: taken or closed
	refused error    // why the kernel engine is not among them
}

// Prepare loads what [New] will need for cfg. The TUN need not exist: cfg.TUN is
// the index that it will have (see tun.OpenAt). Prepare ignores the addresses and
// flows of cfg. The caller closes the result, also after New has used it.
func Prepare(cfg Config) (*Prepared, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, &Error{"open a netlink socket", err}
	}
	defer h.Close()
	uplink, err := h.LinkByIndex(cfg.Uplink)
	if err != nil {
		return nil, &Error{"find the uplink", err}
	}
	ethernet, err := steerable.LinkHeader(uplink)
	if err != nil {
		return nil, &Error{"use the uplink", err}
	}
	p := &Prepared{c: cfg.constants(ethernet, uplink), engine: cfg.KernelEngine}
	if p.objects, p.refused, err = loadFor(p.c, p.engine); err != nil {
		return nil, &Error{"load the BPF programs", installing{err}}
	}
	return p, nil
}

// take returns the programs if they are what load would load, and gives them to the
// caller.
func (p *Prepared) take(c constants, engine, seedMatters bool) (o *objects, refused error, ok bool) {
	if p == nil || p.objects == nil || p.engine != engine || len(c.kept.had) > 0 {
		return nil, nil, false
	}
	want, have := c, p.c
	want.kept, have.kept = nil, nil
	if !seedMatters {
		want.flowSeed, have.flowSeed = 0, 0
	}
	if want != have {
		return nil, nil, false
	}
	o, p.objects = p.objects, nil
	return o, p.refused, true
}

// Close unloads what New has not taken.
func (p *Prepared) Close() error {
	if p == nil || p.objects == nil {
		return nil
	}
	o := p.objects
	p.objects = nil
	return o.Close()
}

// constants returns what the programs for cfg are loaded with. link is any
// interface: it shows what the kernel can do.
func (cfg Config) constants(ethernet bool, link netlink.Link) constants {
	c := newConstants(cfg.Uplink, ethernet, cfg.TUN)
	c.queueLen = clatQueueLen
	c.queues, c.token, c.explicit, c.sharing = max(cfg.Queues, 1), cfg.Token, MaxEAM, cfg.Share != (Share{})
	c.jumboKept = link.Attrs().GSOIPv4MaxSize > 0 // the attribute came with what uses it
	if cfg.Store != nil {
		c.flowSeed = cfg.Token.seed() // the next process's maps go by it too
	}
	return c
}

// loadFor loads the programs, with the kernel engine or without. refused says why
// the engine is not among them although it was asked for.
func loadFor(c constants, engine bool) (o *objects, refused, err error) {
	if engine {
		return loadEngine(c)
	}
	if c.sharing {
		c.programs = sharingPrograms
	}
	o, err = load(c)
	return o, nil, err
}
