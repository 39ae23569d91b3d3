package nat44

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// sourceAndLink is an IPv6 address and the index of an interface.
var sourceAndLink = nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeIFIndex)

// Set replaces the rules by those of c. Tracked connections keep their addresses,
// the counts of connections begin anew, and hosts stay where Place has put them.
func (r *Ruleset) Set(c Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := c.check(); err != nil {
		return fmt.Errorf("nat44: %w", err)
	}
	all := &rules{batch: &batch{conn: r.conn}, config: c}
	// In one transaction: no packet sees less than the old or the new rules.
	for _, t := range []*nftables.Table{r.v4, r.v6} {
		sets, err := r.conn.GetSets(t)
		if err != nil {
			return fmt.Errorf("nftables: list the sets: %w", err)
		}
		all.clear(t, sets)
	}
	all.table4(r.v4)
	all.table6(r.v6)
	if all.err != nil {
		return fmt.Errorf("nftables: %w", all.err)
	}
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: set the rules: %w", err)
	}
	r.places = all.places
	return nil
}

// rules are those of a configuration.
type rules struct {
	*batch
	config Config
	places *nftables.Set // nil: nothing depends on where a host is
}

// table6 drops what is for the translator and does not come from a client's
// place in the network.
func (r *rules) table6(t *nftables.Table) {
	c, all := r.config, r.chains(t)
	if c.Prefix.IsValid() {
		r.spoofed(all["arrival"])
	}
	if len(c.Inside) > 0 {
		r.rule(all["forward"], leavesBy(c.TUN), r.notAny(t, expr.MetaKeyIIFNAME, append(slices.Clone(c.Inside), c.TUN)...), r.count(t, NotInside), drop())
	}
}

func (r *rules) table4(t *nftables.Table) {
	c, all := r.config, r.chains(t)
	r.rule(all["arrival"], source4(), within(c.Pool), comesNotBy(c.TUN), r.count(t, ForgedPoolSource), drop())
	// Also without any outside interface, as while there is no default route: other
	// networks of the host are not for clients.
	r.rule(all["forward"], comesBy(c.TUN), r.notAny(t, expr.MetaKeyOIFNAME, append(slices.Clone(c.Outside), c.TUN)...), r.count(t, NotOutside), prohibited())
	if c.Mode != None {
		// A routed pool is not filtered.
		static := &nftables.Set{Table: t, Name: "static", KeyType: nftables.TypeIPAddr}
		r.fill(static, keys(c.Static))
		r.known(all["forward"])
		r.unsolicited(all["forward"], static)
		r.returned(all["forward"])
		r.untranslated(all["departure"], static)
		r.resets(all["output"])
	}
	r.toGateway(all["input"])
	r.confirmed(all["forward"])
	r.limits(all["forward"])
	r.timeouts(all["forward"])
	nat := addresses{r.batch, c}
	nat.forwards(all["destination"])
	nat.sourceNAT(all["source"])
}

// returnValid is how long it is remembered that a route leads back to a source.
const returnValid = 5 * time.Second

// maxSources bounds the sources of which that is remembered. Those of others are
// looked up for each packet.
const maxSources = 1 << 16

// spoofed drops what comes for the translator by an interface to which no route
// leads back. The lookup of the route takes several times as long as that of a
// source in a set.
func (r *rules) spoofed(chain *nftables.Chain) {
	c, t := r.config, chain.Table
	s := &nftables.Set{Table: t, Name: "sources", KeyType: sourceAndLink, Dynamic: true, HasTimeout: true, Size: maxSources}
	r.fill(s, nil)
	r.rule(chain, destination6(), notWithin(c.Prefix), accept())
	// Registers 8 to 12, of 32 bits; 8 to 11 are register 1.
	source := []expr.Any{
		&expr.Payload{DestRegister: 8, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 16},
		&expr.Meta{Key: expr.MetaKeyIIF, Register: 12},
	}
	r.rule(chain, source, in(s), accept())
	r.rule(chain, comesBy(c.TUN), accept())
	r.rule(chain, noReturn(), r.count(t, SpoofedSource), drop())
	r.rule(chain, source, []expr.Any{&expr.Dynset{
		SrcRegKey: 1, SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_ADD, Timeout: returnValid,
	}})
}

// known ends the chain for packets of connections that have been answered, which
// are most.
func (r *rules) known(chain *nftables.Chain) {
	r.rule(chain, bits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED, expr.CmpOpNeq), accept())
}

// confirmed ends the chain for all but the first packet of a connection. A
// connection without an answer is new to connection tracking with every packet.
func (r *rules) confirmed(chain *nftables.Chain) {
	r.rule(chain, bits(expr.CtKeySTATUS, statusConfirmed, expr.CmpOpNeq), accept())
}

// toGateway refuses what clients send to the host itself: only forwarded ports of
// its addresses are reached through the translator.
func (r *rules) toGateway(chain *nftables.Chain) {
	r.rule(chain, comesBy(r.config.TUN), r.count(chain.Table, ToGateway), prohibited())
}

// resets drops the TCP resets that the host sends about no connection. A segment of a
// client's connection that connection tracking takes for invalid, as one beyond the
// window, is not translated back but delivered to the host itself, whose reset would
// end the connection.
func (r *rules) resets(chain *nftables.Chain) {
	const flags, reset = 13, 4 // where the flags are in the TCP header; RST
	r.rule(chain, protocol(unix.IPPROTO_TCP), load(expr.PayloadBaseTransportHeader, flags, 1), []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{reset}, Xor: []byte{0}},
	}, compare(expr.CmpOpNeq, []byte{0}), bits(expr.CtKeySTATE, expr.CtStateBitINVALID, expr.CmpOpNeq), drop())
}

// unsolicited drops what comes to an address of the pool but by a static map, a
// forwarded port, or a connection.
func (r *rules) unsolicited(chain *nftables.Chain, static *nftables.Set) {
	tun := r.config.TUN
	for _, which := range [][]expr.Any{invalid(), unknown()} {
		r.rule(chain, leavesBy(tun), comesNotBy(tun), which, destination4(), notIn(static), r.count(chain.Table, Unsolicited), drop())
	}
}

// returned does not forward packets for an outside address of [Pool] that belong to no
// connection. An address that is routed to this host, and not assigned to it, has only
// the default route, by which such a packet would go back and come again.
func (r *rules) returned(chain *nftables.Chain) {
	if r.config.Mode != Pool {
		return
	}
	t := chain.Table
	s := &nftables.Set{Table: t, Name: "outside", KeyType: nftables.TypeIPAddr, Interval: true}
	r.fill(s, intervals(r.config.Addresses))
	beyond := append(append(leavesNotBy(r.config.TUN), destination4()...), in(s)...)
	r.rule(chain, beyond, comesBy(r.config.TUN), r.count(t, ToGateway), prohibited())
	r.rule(chain, beyond, r.count(t, Unsolicited), drop())
}

// intervals returns ranges as elements of a set, each the first address and the one
// behind the last.
func intervals(ranges []Range) (all []nftables.SetElement) {
	for _, r := range ranges {
		all = append(all, nftables.SetElement{Key: r.First.AsSlice()})
		if next := r.Last.Next(); next.IsValid() {
			all = append(all, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return all
}

// untranslated drops what would leave with an address of the pool: what
// connection tracking takes for invalid is not translated. Only connections from
// outside to a static map, and ICMP errors about them, have such addresses.
func (r *rules) untranslated(chain *nftables.Chain, static *nftables.Set) {
	c := r.config
	out := append(append(source4(), within(c.Pool)...), leavesNotBy(c.TUN)...)
	if len(c.Static) > 0 {
		answers := append(out, bits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED, expr.CmpOpNeq)...)
		r.rule(chain, answers, source4(), in(static), accept())
		r.rule(chain, answers, source4(), compare(expr.CmpOpEq, c.own().AsSlice()), accept())
	}
	r.rule(chain, out, r.count(chain.Table, Untranslated), drop())
}

func keys(addresses []netip.Addr) (all []nftables.SetElement) {
	for _, a := range addresses {
		all = append(all, nftables.SetElement{Key: a.AsSlice()})
	}
	return all
}
