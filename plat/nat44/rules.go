package nat44

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// maxClients bounds the set that counts connections.
const maxClients = 1 << 16

// Set replaces the rules by those of c. Tracked connections keep their addresses,
// and the count of a client's connections begins anew.
func (r *Ruleset) Set(c Config) error {
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
	return nil
}

// rules are those of a configuration.
type rules struct {
	*batch
	config Config
}

// table6 drops what is for the translator and does not come from a client's
// place in the network.
func (r *rules) table6(t *nftables.Table) {
	c, all := r.config, r.chains(t)
	if c.Prefix.IsValid() {
		r.rule(all["arrival"], destination6(), within(c.Prefix), comesNotBy(c.TUN), noReturn(), r.count(t, SpoofedSource), drop())
	}
	if len(c.Inside) > 0 {
		r.rule(all["forward"], leavesBy(c.TUN), meta(expr.MetaKeyIIFNAME), notIn(r.interfaces(t, append([]string{c.TUN}, c.Inside...))), r.count(t, NotInside), drop())
	}
}

func (r *rules) table4(t *nftables.Table) {
	c, all := r.config, r.chains(t)
	r.rule(all["arrival"], comesNotBy(c.TUN), source4(), within(c.Pool), r.count(t, ForgedPoolSource), drop())
	if len(c.Outside) > 0 {
		r.rule(all["forward"], comesBy(c.TUN), meta(expr.MetaKeyOIFNAME), notIn(r.interfaces(t, append([]string{c.TUN}, c.Outside...))), r.count(t, NotOutside), prohibited())
	}
	if c.Mode != None {
		// A routed pool is not filtered.
		static := &nftables.Set{Table: t, Name: "static", KeyType: nftables.TypeIPAddr}
		r.fill(static, keys(c.Static))
		r.unsolicited(all["forward"], static)
		r.untranslated(all["departure"], static)
	}
	r.toGateway(all["input"])
	r.connections(all["forward"])
	r.timeouts(all["forward"])
	r.forwards(all["destination"])
	r.sourceNAT(all["source"])
}

// toGateway refuses what clients send to the host itself: only forwarded ports of
// its addresses are reached through the translator.
func (r *rules) toGateway(chain *nftables.Chain) {
	r.rule(chain, comesBy(r.config.TUN), r.count(chain.Table, ToGateway), prohibited())
}

// unsolicited drops what comes to an address of the pool but by a static map, a
// forwarded port, or a connection.
func (r *rules) unsolicited(chain *nftables.Chain, static *nftables.Set) {
	tun := r.config.TUN
	r.rule(chain, leavesBy(tun), comesNotBy(tun), unknown(), destination4(), notIn(static), r.count(chain.Table, Unsolicited), drop())
}

// untranslated drops what would leave with an address of the pool: what
// connection tracking takes for invalid is not translated. Only connections from
// outside to a static map, and ICMP errors about them, have such addresses.
func (r *rules) untranslated(chain *nftables.Chain, static *nftables.Set) {
	c := r.config
	out := append(append(leavesNotBy(c.TUN), source4()...), within(c.Pool)...)
	if len(c.Static) > 0 {
		answers := append(out, bits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED, expr.CmpOpNeq)...)
		r.rule(chain, answers, source4(), in(static), accept())
		r.rule(chain, answers, source4(), compare(expr.CmpOpEq, c.own().AsSlice()), accept())
	}
	r.rule(chain, out, r.count(chain.Table, Untranslated), drop())
}

// connections limits the connections of each client. With a routed pool nothing
// depends on connection tracking.
func (r *rules) connections(chain *nftables.Chain) {
	c, t := r.config, chain.Table
	if c.ConnectionsPerClient == 0 || c.Mode == None {
		return
	}
	s := &nftables.Set{Table: t, Name: "connections", KeyType: nftables.TypeIPAddr, Dynamic: true, Size: maxClients}
	r.fill(s, nil)
	r.rule(chain, comesBy(c.TUN), isNew(), source4(),
		[]expr.Any{&expr.Dynset{
			SrcRegKey: 1, SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_ADD,
			Exprs: []expr.Any{&expr.Connlimit{Count: uint32(c.ConnectionsPerClient), Flags: expr.NFT_CONNLIMIT_F_INV}},
		}}, r.count(t, Connections), prohibited())
}

func keys(addresses []netip.Addr) (all []nftables.SetElement) {
	for _, a := range addresses {
		all = append(all, nftables.SetElement{Key: a.AsSlice()})
	}
	return all
}
