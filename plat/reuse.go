package plat

import (
	"errors"
	"net/netip"

	"tnat64d/plat/nat44"
)

// Removed returns the addresses whose hosts have lost them and that are not given
// to others yet: connections of the former hosts may still be tracked.
func (t *Table) Removed() (all []netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for a := range t.removed {
		all = append(all, address4(a))
	}
	return all
}

// Reuse lets addresses that Removed has returned be given again.
func (t *Table) Reuse(addresses []netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range addresses {
		if t.removed[number(a)] {
			delete(t.removed, number(a))
			t.taken--
		}
	}
}

// kept reports whether an address belongs to the host that the file of maps has
// for it.
func (t *Table) kept(a netip.Addr) bool {
	e := t.at4(number(a))
	return e != nil && e.kept
}

// reuse ends the connections of removed maps and lets their addresses be given
// again. Where that fails they wait for the next time.
func (n *NAT64) reuse() {
	removed := n.table.Removed()
	if len(removed) == 0 {
		return
	}
	gone := map[netip.Addr]bool{}
	for _, a := range removed {
		gone[a] = true
	}
	if n.forget(func(a netip.Addr) bool { return gone[a] }) {
		n.table.Reuse(removed)
	}
}

// forgetOthers ends the connections of hosts whose addresses now belong to others
// or to nobody: an earlier process has left them.
func (n *NAT64) forgetOthers() {
	n.forget(func(a netip.Addr) bool { return a.Is4() && n.config.Pool.Contains(a) && !n.table.kept(a) })
}

// forget ends the connections of addresses. It reports whether none are left, as
// far as the kernel can be asked.
func (n *NAT64) forget(gone func(netip.Addr) bool) bool {
	ended, err := nat44.Forget(gone)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		n.log.Debug("cannot end connections of addresses that are given to other hosts", "reason", err)
		return true
	case err != nil:
		n.log.Warn("cannot end connections of addresses that other hosts may get; retrying", "reason", err)
		return false
	case ended > 0:
		n.log.Info("ended connections of addresses that other hosts may get", "connections", ended)
	}
	return true
}
