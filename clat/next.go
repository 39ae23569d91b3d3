package clat

import (
	"errors"
	"fmt"
	"net/netip"

	"tnat64d/clat/plan"
	"tnat64d/siit"
)

// nextFor returns the next address that the steering is to use: that of p.want, when
// the uplink has it and it has passed DAD.
func (d *datapath) nextFor(p pass) Next {
	n := Next{Main: p.want.IPv6, Addr: p.want.Next, Via: p.want.NextVia}
	if !n.Addr.IsValid() || d.oneAddress || p.want.Shared {
		return Next{}
	}
	e, there := p.o.Addr(d.uplink.Index, n.Addr)
	usable := there && !e.Tentative && !e.DADFailed
	if !usable && !d.steered.next.sameAddrs(n) { // restoring it is inService's business
		return Next{}
	}
	return n
}

func (n Next) sameAddrs(m Next) bool { return n.Main == m.Main && n.Addr == m.Addr }

// endNext ends the use of a next address other than n, before the steering lets go of
// it. The connections from there end, unless it becomes main.
func (d *datapath) endNext(n Next, main netip.Addr) error {
	have := d.steered.next
	if have == (Next{}) || have.sameAddrs(n) {
		return nil
	}
	if main == have.Main {
		d.flows.abort(d.ipv4, func(c plan.Connection) bool { return !d.keepsMain(c) }, d.uplink.Name)
	}
	d.steered.next = Next{}
	if err := d.steering.SetNext(Next{}, netip.Prefix{}, nil); err != nil {
		return fmt.Errorf("end the use of %s: %w", have.Addr, err)
	}
	return nil
}

// ensureNext uses n, the next address, for the flows that begin from now on.
func (d *datapath) ensureNext(p pass, n Next) error {
	if n == (Next{}) || n == d.steered.next && d.steered.nextFollows == d.steered.follows.generation {
		return nil
	}
	begins := !n.sameAddrs(d.steered.next)
	err := d.steering.SetNext(n, p.want.PREF64.Prefix, func() []plan.Connection { return d.began(p.want) })
	switch {
	case err == nil:
		d.steered.next, d.steered.nextFollows = n, d.steered.follows.generation
		if begins {
			d.log.Info("the network is renumbered: new connections use another address, existing ones keep theirs", "iface", d.uplink.Name, "ipv6", n.Main, "next", n.Addr)
		}
	case begins:
		// All flows have the main address until its prefix ends.
		d.oneAddress = true
		d.wake.in(1) // without the next address
		level := d.log.Info
		if errors.Is(err, errors.ErrUnsupported) {
			level = d.log.Debug
		}
		level("the network is renumbered: all connections keep the address until its prefix ends", "iface", d.uplink.Name, "ipv6", n.Main, "reason", err)
	default:
		d.log.Debug("no route to the PLAT from the next address", "iface", d.uplink.Name, "reason", err)
	}
	return nil
}

// began lists the flows from the CLAT that have begun, by IPv6 addresses.
func (d *datapath) began(want *plan.CLAT) (all []plan.Connection) {
	some := d.host.Began(d.ipv4, MaxBegan)
	if len(some) > MaxBegan {
		return some // the steering has no room for them
	}
	for _, c := range some {
		if c, ok := behind(want.Translation.Mapping, c); ok {
			all = append(all, c)
		}
	}
	return all
}

// behind returns a connection with the IPv6 address of its remote.
func behind(m siit.Mapping, c plan.Connection) (plan.Connection, bool) {
	if !c.Remote.IsValid() {
		return c, true
	}
	p, ok := m.PrefixOf(c.Remote.Addr())
	if !ok {
		return c, false
	}
	pref64, err := siit.NewPrefix(p)
	if err != nil {
		return c, false // nobody translates by it either
	}
	c.Remote = netip.AddrPortFrom(pref64.Embed(c.Remote.Addr()), c.Remote.Port())
	return c, true
}

// keepsMain reports whether a connection of a program has the main address.
func (d *datapath) keepsMain(c plan.Connection) bool {
	c, ok := behind(d.mapping.Mapping, c)
	return !ok || d.steering.KeepsMain(c)
}

// breakFlowsTo ends the connections that do not survive when the CLAT address becomes
// to: where that has been the next address, those that have it go on.
func (d *datapath) breakFlowsTo(to netip.Addr) {
	if d.steered.next == (Next{}) || d.steered.next.Addr != to || d.steering == nil {
		d.breakFlows()
		return
	}
	d.flows.abort(d.ipv4, d.keepsMain, d.uplink.Name)
	d.mapping = siit.Config{}
}
