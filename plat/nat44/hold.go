package nat44

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// holdName is the name of the tables of a Hold.
const holdName = tableName + "-hold"

// Hold are rules that keep tracked connections while no Ruleset is in force. Without
// any rule that asks for NAT, the kernel does not translate what servers answer back
// to the pool but delivers it to the host itself, whose TCP resets the connections;
// and connection tracking no longer follows the sequence numbers of what passes.
//
// A Hold drops what is for the pool or for the translator, because the TUN that leads
// there is missing too: both ends send it again.
type Hold struct{ tables }

// NewHold makes the rules for the connections of c. It returns nil if c translates no
// addresses, as nothing depends on connection tracking then.
func NewHold(c Config) (*Hold, error) {
	if c.Mode == None {
		return nil, nil
	}
	t, err := newTables(holdName)
	if err != nil {
		return nil, err
	}
	h := &Hold{t}
	all := &batch{conn: h.conn}
	forward := h.conn.AddChain(&nftables.Chain{
		Name: "forward", Table: h.v4, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	all.rule(forward, destination4(), within(c.Pool), drop())
	// One chain of this type makes the kernel translate at all hooks. The rule makes
	// it track connections.
	source := h.conn.AddChain(&nftables.Chain{
		Name: "source", Table: h.v4, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	all.rule(source, leavesNotBy(c.TUN), source4(), within(c.Pool), []expr.Any{&expr.Masq{}})
	if c.Prefix.IsValid() {
		// Before routing, which answers that there is no route.
		arrival := h.conn.AddChain(&nftables.Chain{
			Name: "arrival", Table: h.v6, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
		})
		all.rule(arrival, destination6(), within(c.Prefix), drop())
	}
	if err := errors.Join(all.err, h.conn.Flush()); err != nil {
		return nil, errors.Join(fmt.Errorf("nftables: keep the connections: %w", err), h.remove())
	}
	return h, nil
}

// Keep passes the descriptor that the rules belong to to keep, which has to copy it:
// they stay while a copy is open. Before Linux 5.12 rules do not belong to a descriptor,
// and Keep returns [errors.ErrUnsupported].
func (h *Hold) Keep(keep func(fd int) error) error {
	if !h.owned {
		return errors.ErrUnsupported
	}
	raw, err := h.socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	var kept error
	if err := raw.Control(func(fd uintptr) { kept = keep(int(fd)) }); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return kept
}

// Close removes the rules.
func (h *Hold) Close() error { return h.remove() }

// Leave closes the rules' socket and nothing else: they stay if Keep has made a copy.
func (h *Hold) Leave() error { return h.conn.CloseLasting() }
