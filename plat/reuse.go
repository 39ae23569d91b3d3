package plat

import (
	"errors"
	"log/slog"
	"net/netip"

	"tnat64d/plat/nat44"
)

// formerHosts ends the tracked connections of hosts that have lost their address,
// before others get it.
type formerHosts struct {
	table *Table
	log   *slog.Logger
}

// reuse ends the connections of removed maps and lets their addresses be given
// again. Where that fails they wait for the next time.
func (f formerHosts) reuse() {
	lost := f.table.pool.lost()
	if len(lost) == 0 {
		return
	}
	gone := map[netip.Addr]bool{}
	for _, a := range lost {
		gone[a] = true
	}
	if f.forget(func(a netip.Addr) bool { return gone[a] }) {
		f.table.reuse(lost)
	}
}

// forgetOthers ends the connections of hosts whose addresses now belong to others
// or to nobody: an earlier process has left them. Those of addresses that are not in
// the pool any more end too: no route leads their answers to the TUN, so that they
// would leave by the default route.
func (f formerHosts) forgetOthers(outside map[netip.Addr]bool) {
	f.forget(func(a netip.Addr) bool {
		if !a.Is4() || !f.table.config.Pool.Contains(a) {
			return outside[a]
		}
		e := f.table.at4(number(a))
		return e == nil || !e.kept
	})
}

// forget ends the connections of addresses. It reports whether none are left, as
// far as the kernel can be asked.
func (f formerHosts) forget(gone func(netip.Addr) bool) bool {
	ended, err := nat44.Forget(gone)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		f.log.Debug("cannot end connections of addresses that now belong to other hosts", "reason", err)
		return true
	case err != nil:
		f.log.Warn("cannot end connections of addresses that other hosts may get; retrying", "reason", err)
		return false
	case ended > 0:
		f.log.Info("ended connections of addresses that other hosts may get", "connections", ended)
	}
	return true
}
