package clat

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tnat64d/clat/plan"
)

// address is the resource of the CLAT IPv6 addresses on the uplink: the one that
// serves, the one that is to serve after DAD, the next one (see [plan.CLAT]), and
// those of explicit address mappings (RFC 7757).
type address struct {
	tools
	uplink     plan.Uplink
	refusals   *refusals
	unremoved  *unremoved
	added      []netip.Addr // that we have put on the uplink
	active     netip.Addr   // has passed DAD and serves; invalid: none
	shared     bool         // active is an address of the host's, which stays
	mapped     []netip.Addr // of explicit address mappings, and the next one
	spare      netip.Addr   // the last next one, unless it serves all flows by now
	passed     []netip.Addr // of added: those that have passed DAD
	dadRefused netip.Addr   // what the last Ensure found in use by another host
	drift      map[netip.Addr]*driftLimit
	retry      retry
	inService  retry // of the part inService
}

func newAddress(t tools, u plan.Uplink, refused *refusals, kept *unremoved) *address {
	return &address{tools: t, uplink: u, refusals: refused, unremoved: kept, drift: map[netip.Addr]*driftLimit{}}
}

// Ensure puts p.next on the uplink. It returns Up when that address has passed
// DAD, is optimistic (RFC 4429) or has served here a moment ago (see LeftAddrs),
// Pending before, and Replan when another host has it.
func (a *address) Ensure(p pass) (Progress, error) {
	if p.want.Shared {
		a.dadRefused = netip.Addr{}
		if !slices.ContainsFunc(p.o.Addrs, func(e plan.Addr) bool { return e.Prefix.Addr() == p.next && !e.Tentative && !e.DADFailed }) {
			return Replan, nil
		}
		a.active, a.shared = p.next, true
		return Up, nil
	}
	progress, err := a.claim(p.o, p.next)
	if progress == Up && err == nil {
		a.active, a.shared = p.next, false
		if a.spare == p.next {
			a.spare = netip.Addr{}
		}
	}
	return progress, err
}

// usable reports whether the host has addr on the uplink, and may send from there.
func (a *address) usable(o plan.Observed, addr netip.Addr) bool {
	e, present := o.Addr(a.uplink.Index, addr)
	return present && !e.Tentative && !e.DADFailed
}

// serves reports whether packets from the active address still belong to the
// network of the uplink.
func (a *address) serves(o plan.Observed) bool {
	if a.shared {
		return a.usable(o, a.active)
	}
	return plan.Serves(o, a.uplink.Index, a.active)
}

// claim puts addr on the uplink and follows its DAD.
func (a *address) claim(o plan.Observed, addr netip.Addr) (Progress, error) {
	a.dadRefused = netip.Addr{}
	e, present := o.Addr(a.uplink.Index, addr)
	if a.unremoved.adopt(a.uplink, addr) {
		a.added = append(a.added, addr)
	}
	known := slices.Contains(a.added, addr)
	switch {
	case !present:
		if i := slices.Index(a.passed, addr); i >= 0 && addr != a.active && !slices.Contains(a.mapped, addr) {
			// Another program has removed it from the reserve.
			a.passed = slices.Delete(a.passed, i, i+1)
			a.left.add(a.uplink.Name, addr, time.Now())
		}
		if !known && a.detections.has(o, a.uplink, addr) && !a.left.has(a.uplink.Name, addr) {
			return a.addDetected(o, addr)
		}
		added, err := a.add(addr, known, false)
		if err != nil || !added || !a.left.has(a.uplink.Name, addr) {
			return Pending, err
		}
		return Up, nil
	case e.DADFailed:
		a.refuse(addr)
		a.passed = slices.DeleteFunc(a.passed, func(b netip.Addr) bool { return b == addr })
		if addr == a.active {
			return Replan, nil // see instance.ensure: more than the address has to go
		}
		return Replan, a.removeIf(func(b netip.Addr) bool { return b == addr })
	case e.Tentative && a.left.has(a.uplink.Name, addr):
		return Up, nil
	case e.Tentative:
		return Pending, nil
	}
	if !e.Optimistic && !slices.Contains(a.passed, addr) {
		a.passed = append(a.passed, addr)
	}
	return Up, nil
}

// addDetected adds addr when the detection that began without it is over. DAD of the
// kernel takes its place if it fails.
func (a *address) addDetected(o plan.Observed, addr netip.Addr) (Progress, error) {
	wait, err := a.detections.ensure(o, a.uplink, addr)
	switch {
	case errors.Is(err, plan.ErrAddrInUse):
		a.refuse(addr)
		return Replan, nil
	case err != nil:
		a.log.Debug("cannot detect duplicates of the CLAT address", "iface", a.uplink.Name, "reason", err)
		_, err := a.add(addr, false, false)
		return Pending, err
	case wait > 0:
		a.wake.in(wait)
		return Pending, nil
	}
	if _, err := a.add(addr, false, true); err != nil {
		return Pending, err
	}
	a.detections.end(a.uplink)
	return Up, nil
}

// refuse remembers that another host has addr.
func (a *address) refuse(addr netip.Addr) {
	a.log.Warn("address is in use by another host", "iface", a.uplink.Name, "address", addr)
	a.refusals.add(a.uplink.Index, addr)
	a.dadRefused = addr
	a.left.forget(a.uplink.Name, addr)
}

// add adds addr, for the first time or because another program has removed it,
// unless that happens too often. detected says that no other host has it.
func (a *address) add(addr netip.Addr, known, detected bool) (added bool, err error) {
	name, drift := fmt.Sprintf("address %s on %s", addr, a.uplink.Name), a.driftOf(addr)
	if known && !drift.mayRestore(a.tools, name) {
		return false, nil
	}
	if !known {
		a.journal.add(a.uplink.Name, addr)
		a.added = append(a.added, addr)
	}
	if err := a.host.AddCLATAddr(a.uplink.Index, addr, detected); err != nil {
		return false, fmt.Errorf("add address %s to %s: %w", addr, a.uplink.Name, err)
	}
	if known {
		drift.restored(a.tools, name)
	}
	return true, nil
}

// driftOf returns the limit of an address, which outlasts its removal by us: the
// address that serves may be withdrawn and come back.
func (a *address) driftOf(addr netip.Addr) *driftLimit {
	l := a.drift[addr]
	if l == nil {
		maps.DeleteFunc(a.drift, func(_ netip.Addr, l *driftLimit) bool { return l.full() })
		l = &driftLimit{}
		a.drift[addr] = l
	}
	return l
}

// Remove removes all addresses.
func (a *address) Remove() error { return a.removeIf(func(netip.Addr) bool { return true }) }

// withdraw removes the address that serves, and those of explicit mappings.
func (a *address) withdraw() error {
	gone := a.active
	a.active, a.shared = netip.Addr{}, false
	return a.removeIf(func(b netip.Addr) bool { return b == gone || slices.Contains(a.mapped, b) })
}

// removeIf removes the addresses that which selects. Those that the kernel
// refuses to remove stay ours.
func (a *address) removeIf(which func(netip.Addr) bool) error {
	var errs []error
	a.added = slices.DeleteFunc(a.added, func(b netip.Addr) bool {
		if !which(b) {
			return false
		}
		err := removeAddr(a.tools, a.uplink, b)
		if err != nil {
			errs = append(errs, err)
			return false
		}
		if i := slices.Index(a.passed, b); i >= 0 {
			a.passed = slices.Delete(a.passed, i, i+1)
			if !slices.Contains(a.mapped, b) && b != a.spare {
				a.left.add(a.uplink.Name, b, time.Now())
			}
		}
		return true
	})
	return errors.Join(errs...)
}

// removeAddr removes a CLAT address of ours from an uplink, and from the journal. It
// ends connections of native IPv6 from there: the kernel chooses the address where
// the host has no other, until we remove it, nothing that such a program sends
// passes the guard, and the program would wait for its own time-out.
func removeAddr(t tools, u plan.Uplink, a netip.Addr) error {
	if err := t.host.DelCLATAddr(u.Index, a); err != nil {
		return fmt.Errorf("remove address %s from %s: %w", a, u.Name, err)
	}
	t.journal.del(u.Name, a)
	t.flows.abort(a, nil, u.Name)
	return nil
}

// inService is the part of address that comes after the datapath: addresses of
// explicit mappings, whose packets are steered by then, and the end of addresses
// that no longer serve. On the way down all addresses go before the datapath does:
// otherwise the kernel would answer what is on its way with a reset, and no
// connection would survive a restart.
type inService struct{ *address }

func (s inService) Ensure(p pass) (Progress, error) {
	s.mapped = p.want.EAMAddrs
	if next := p.want.Next; next.IsValid() {
		s.mapped, s.spare = append(slices.Clone(s.mapped), next), next
	}
	progress := Up
	for _, m := range s.mapped {
		q, err := s.claim(p.o, m)
		if err != nil {
			// This does not end the CLAT.
			s.log.Warn("cannot add a further address to the uplink", "iface", s.uplink.Name, "address", m, "reason", err)
			s.added = slices.DeleteFunc(s.added, func(b netip.Addr) bool { return m == b })
		}
		if q == Replan {
			progress = Replan
		}
	}
	if progress == Replan {
		return Replan, nil
	}
	return Up, s.removeIf(func(b netip.Addr) bool {
		return b != s.active && b != p.next && !slices.Contains(s.mapped, b)
	})
}
