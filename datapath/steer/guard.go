package steer

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/datapath/steerable"
)

// Guard guards the addresses of CLATs on a link that is not the uplink of a
// [Steering]; a Steering does so on its own. It is found by [CleanUp], as that
// is.
type Guard struct {
	netlink *netlink.Handle
	objects guardObjects
	guarded guardMaps
	hooks   attachment
}

// guardObjects are the programs of a Guard and the maps that they need.
type guardObjects struct {
	UplinkEgress *ebpf.Program `ebpf:"uplink_egress"`
	GuardIngress *ebpf.Program `ebpf:"guard_ingress"`
	Counts       *ebpf.Map     `ebpf:"counts"`
	Guarded4     *ebpf.Map     `ebpf:"guarded4"`
	Guarded6     *ebpf.Map     `ebpf:"guarded6"`
}

// GuardConfig says what a Guard guards.
type GuardConfig struct {
	Link    int // ifindex, in the calling thread's network namespace
	Guarded Guarded
	Token   Token // of the Steerings
	Attach  Attach

	Programs *Programs // is told of the programs attached; may be nil

	// As in [Config].
	Store     Store
	Inherited *Inherited
}

// NewGuard attaches a Guard to an interface. The error is an [*Error].
func NewGuard(cfg GuardConfig) (_ *Guard, err error) {
	g := &Guard{hooks: attachment{known: cfg.Programs, inherited: cfg.Inherited}}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	if g.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, &Error{"open a netlink socket", err}
	}
	l, err := g.netlink.LinkByIndex(cfg.Link)
	if err != nil {
		return nil, &Error{fmt.Sprintf("find interface %d", cfg.Link), err}
	}
	ethernet, err := steerable.LinkHeader(l)
	if err != nil {
		return nil, &Error{"guard the interface", err}
	}
	c := newConstants(cfg.Link, ethernet, 0)
	c.token = cfg.Token
	if err := g.load(c); err != nil {
		return nil, &Error{"load the BPF program", installing{err}}
	}
	if err := g.SetGuarded(cfg.Guarded); err != nil {
		return nil, err
	}
	hooks := []hook{
		{l, egress, g.objects.UplinkEgress, "uplink_egress"},
		{l, ingress, g.objects.GuardIngress, "guard_ingress"},
	}
	if err := g.hooks.attach(g.netlink, cfg.Attach, hooks, cfg.Inherited.attach(cfg.Store)); err != nil {
		return nil, err
	}
	return g, nil
}

// load loads the programs, with the maps they need.
func (g *Guard) load(c constants) error {
	spec, err := prepare(c)
	if err != nil {
		return err
	}
	if err := checkDescriptors(spec); err != nil {
		return err
	}
	if err := spec.LoadAndAssign(&g.objects, nil); err != nil {
		return checkRefusal(err)
	}
	g.guarded = newGuardMaps(g.objects.Guarded4, g.objects.Guarded6)
	return nil
}

// Intact reports whether the program is where NewGuard has attached it: as
// [Steering.Intact].
func (g *Guard) Intact() bool { return g.hooks.intact() }

// Attached says by what the programs are attached: as [Steering.Attached].
func (g *Guard) Attached() string { return g.hooks.by }

// Outlives is that of [Steering].
func (g *Guard) Outlives() bool { return g.hooks.by != "" }

// Counters returns what was dropped, and zero for what a Guard does not count.
func (g *Guard) Counters() (Counters, error) { return readCounters(g.objects.Counts) }

// Close detaches the program and frees it. It may be called twice, and after
// the interface has gone.
func (g *Guard) Close() error {
	errs := []error{g.hooks.Close()}
	if o := &g.objects; o.Counts != nil {
		errs = append(errs, o.UplinkEgress.Close(), o.GuardIngress.Close(), o.Counts.Close(), o.Guarded4.Close(), o.Guarded6.Close())
		*o = guardObjects{}
	}
	if g.netlink != nil {
		g.netlink.Close()
		g.netlink = nil
	}
	return errors.Join(errs...)
}
