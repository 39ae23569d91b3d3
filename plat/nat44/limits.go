package nat44

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// perGroup is how many connections are counted together. To count, the kernel goes
// through a list of them, at a new connection if it has not done so in this tick of
// its clock: with 4,000 in one list that takes longer than all the rest of a
// connection, and a list that connections leave faster than it is gone through
// fills up with ended ones.
const perGroup = 256

// maxGroups bounds the groups of all clients, and those of all networks. Each has
// at least one connection. What does not fit is not limited.
const maxGroups = 1 << 20

// What is counted together: the number of a group, and whose connections they are.
var (
	groupOfClient  = nftables.MustConcatSetType(nftables.TypeMark, nftables.TypeIPAddr)
	groupOfNetwork = nftables.MustConcatSetType(nftables.TypeMark, nftables.TypeIP6Addr)
)

// limits refuses connections of clients and networks that have too many. With a
// routed pool nothing depends on connection tracking.
func (r *rules) limits(chain *nftables.Chain) {
	c := r.config
	if c.Mode == None {
		return
	}
	// Registers of 32 bits. 8 to 11 are register 1.
	if n := c.ConnectionsPerClient; n > 0 {
		client := []expr.Any{&expr.Payload{DestRegister: 9, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}}
		r.limit(chain, "connections", groupOfClient, client, n, Connections)
	}
	if n := c.ConnectionsPer64; n > 0 {
		r.places = &nftables.Set{Table: chain.Table, Name: places, IsMap: true, KeyType: nftables.TypeIPAddr, DataType: groupOfNetwork}
		r.fill(r.places, nil)
		network := []expr.Any{
			// For nft, which takes register 9 for what was loaded there before the
			// value of the map: to list a key with a value of a map crashes nft 1.0.6.
			&expr.Payload{DestRegister: 9, Base: expr.PayloadBaseNetworkHeader, Offset: 4, Len: 16},
		}
		network = append(append(network, source4()...), mapped(r.places)...)
		r.limit(chain, "connections64", groupOfNetwork, network, n, NetworkConnections)
	}
}

// limit refuses new connections of who is in the registers from 9 on, beyond n. The
// connections are counted in groups, chosen at random, that together have no more
// than n.
func (r *rules) limit(chain *nftables.Chain, name string, typ nftables.SetDatatype, who []expr.Any, n int, count Count) {
	groups := (n + perGroup - 1) / perGroup
	s := &nftables.Set{Table: chain.Table, Name: name, Dynamic: true, Size: maxGroups, KeyType: typ}
	r.fill(s, nil)
	r.rule(chain, comesBy(r.config.TUN), isNew(), who, []expr.Any{
		&expr.Numgen{Register: 8, Type: unix.NFT_NG_RANDOM, Modulus: uint32(groups)},
		&expr.Dynset{
			SrcRegKey: 8, SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_ADD,
			Exprs: []expr.Any{&expr.Connlimit{Count: uint32(n / groups), Flags: expr.NFT_CONNLIMIT_F_INV}},
		},
	}, r.count(chain.Table, count), prohibited())
}
