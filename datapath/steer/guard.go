package steer

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Guard keeps IPv4 of CLATs from leaving by a link that is not the uplink of
// a [Steering]. It is found by [CleanUp], as that is.
type Guard struct {
	netlink *netlink.Handle
	program *ebpf.Program
	counts  *ebpf.Map
	hooks   attachment
}

// NewGuard attaches a Guard to an interface of the calling thread's network
// namespace. The error is an [*Error].
func NewGuard(ifindex int, how Attach) (_ *Guard, err error) {
	g := &Guard{}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	if g.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, &Error{"open a netlink socket", err}
	}
	l, err := g.netlink.LinkByIndex(ifindex)
	if err != nil {
		return nil, &Error{fmt.Sprintf("find interface %d", ifindex), err}
	}
	ethernet, err := linkHeader(l)
	if err != nil {
		return nil, &Error{"guard the interface", err}
	}
	if err := g.load(newConstants(ifindex, ethernet, 0)); err != nil {
		return nil, &Error{"load the BPF program", err}
	}
	if err := g.hooks.attach(g.netlink, how, []hook{{l, egress, g.program, "uplink_egress"}}, attachTCX); err != nil {
		return nil, err
	}
	return g, nil
}

// load loads the one program, with the one map it needs.
func (g *Guard) load(c constants) error {
	spec, err := prepare(c)
	if err != nil {
		return err
	}
	var some struct {
		UplinkEgress *ebpf.Program `ebpf:"uplink_egress"`
		Counts       *ebpf.Map     `ebpf:"counts"`
	}
	if err := spec.LoadAndAssign(&some, nil); err != nil {
		return err
	}
	g.program, g.counts = some.UplinkEgress, some.Counts
	return nil
}

// Intact reports whether the program is where NewGuard has attached it: as
// [Steering.Intact].
func (g *Guard) Intact() bool { return g.hooks.intact() }

// LeakedIPv4 returns how many packets were dropped.
func (g *Guard) LeakedIPv4() (uint64, error) {
	c, err := readCounters(g.counts)
	return c.LeakedIPv4, err
}

// Close detaches the program and frees it. It may be called twice, and after
// the interface has gone.
func (g *Guard) Close() error {
	errs := []error{g.hooks.Close()}
	if g.program != nil {
		errs = append(errs, g.program.Close(), g.counts.Close())
		g.program = nil
	}
	if g.netlink != nil {
		g.netlink.Close()
		g.netlink = nil
	}
	return errors.Join(errs...)
}
