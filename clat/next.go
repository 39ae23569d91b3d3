package clat

import (
	"errors"
	"fmt"
	"net/netip"

	"tnat64d/clat/plan"
	"tnat64d/siit"
)

// renumbering is the use of a second CLAT address while a network is renumbered: see
// [Steering.SetNext]. In use is none at first.
type renumbering struct {
	tools
	uplink plan.Uplink
	ipv4   netip.Addr // of the CLAT

	next        Next
	follows     uint64     // the generation of the host's routes that it follows
	unsupported bool       // the steering cannot use a next address
	refused     netip.Addr // the main address beside which none could be used; invalid: there is none
}

// oneAddress reports whether flows that begin have the address main too.
func (r *renumbering) oneAddress(main netip.Addr) bool {
	return r.unsupported || main.IsValid() && r.refused == main
}

// wanted returns the next address that the steering is to use: that of p.want, when
// the uplink has it and it has passed DAD.
func (r *renumbering) wanted(p pass) Next {
	n := Next{Main: p.want.IPv6, Addr: p.want.Next, Via: p.want.NextVia}
	if r.refused != n.Main {
		r.refused = netip.Addr{}
	}
	if !n.Addr.IsValid() || r.oneAddress(n.Main) || p.want.Shared {
		return Next{}
	}
	e, there := p.o.Addr(r.uplink.Index, n.Addr)
	usable := there && !e.Tentative && !e.DADFailed
	if !usable && !r.next.sameAddrs(n) { // restoring it is inService's business
		return Next{}
	}
	return n
}

func (n Next) sameAddrs(m Next) bool { return n.Main == m.Main && n.Addr == m.Addr }

// end ends the use of a next address other than n, before the steering lets go of it.
// The connections from there end, unless it becomes main. m is the mapping in force.
func (r *renumbering) end(s Steering, m siit.Mapping, n Next, main netip.Addr) error {
	have := r.next
	if have == (Next{}) || have.sameAddrs(n) {
		return nil
	}
	if main == have.Main {
		r.flows.abort(r.ipv4, func(c plan.Connection) bool { return !keepsMain(s, m, c) }, r.uplink.Name)
	}
	r.next = Next{}
	if err := s.SetNext(Next{}, netip.Prefix{}, nil); err != nil {
		return fmt.Errorf("end the use of %s: %w", have.Addr, err)
	}
	return nil
}

// ensure uses n, the next address, for the flows that begin from now on. generation is
// that of the host's routes to the PLAT.
func (r *renumbering) ensure(s Steering, want *plan.CLAT, n Next, generation uint64) {
	if n == (Next{}) || n == r.next && r.follows == generation {
		return
	}
	begins := !n.sameAddrs(r.next)
	err := s.SetNext(n, want.PREF64.Prefix, func() []plan.Connection { return r.began(want) })
	switch {
	case err == nil:
		r.next, r.follows = n, generation
		if begins {
			r.log.Info("the network is renumbered: new connections use another address, existing ones keep theirs", "iface", r.uplink.Name, "ipv6", n.Main, "next", n.Addr)
		}
	case begins:
		// All flows have the main address until its prefix ends.
		r.refused = n.Main
		r.wake.in(1) // without the next address
		level := r.log.Info
		if errors.Is(err, errors.ErrUnsupported) {
			r.unsupported = true
			level = r.log.Debug
		}
		level("the network is renumbered: all connections keep the address until its prefix ends", "iface", r.uplink.Name, "ipv6", n.Main, "reason", err)
	default:
		r.log.Debug("no route to the PLAT from the next address", "iface", r.uplink.Name, "reason", err)
	}
}

// began lists the flows from the CLAT that have begun, by IPv6 addresses.
func (r *renumbering) began(want *plan.CLAT) (all []plan.Connection) {
	some := r.host.Began(r.ipv4, MaxBegan)
	if len(some) > MaxBegan {
		return some // the steering has no room for them
	}
	return allBehind(want.Translation.Mapping, some)
}

// allBehind returns those of the connections that behind knows.
func allBehind(m siit.Mapping, of []plan.Connection) (all []plan.Connection) {
	for _, v4 := range of {
		if v6, ok := behind(m, v4); ok {
			all = append(all, v6)
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
func keepsMain(s Steering, m siit.Mapping, c plan.Connection) bool {
	c, ok := behind(m, c)
	return !ok || s.KeepsMain(c)
}
