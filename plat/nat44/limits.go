package nat44

import (
	"time"

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
		r.closed(chain, network, n)
	}
}

// closedFor is how long a TCP connection stays tracked once it is closed (TCP_TRANS,
// RFC 6146 section 4).
const closedFor = 4 * time.Minute

// closed refuses a network's new TCP connections beyond n at once and n in closedFor
// after that. The kernel's count leaves out connections in TIME_WAIT, which
// nevertheless take room in connection tracking: without this, hosts that open and
// close connections fill it (RFC 6888 REQ-4 B). Together with [rules.limit] a network
// has at most 3n entries.
func (r *rules) closed(chain *nftables.Chain, network []expr.Any, n int) {
	s := &nftables.Set{Table: chain.Table, Name: "opened64", Dynamic: true, HasTimeout: true, Size: maxGroups, KeyType: nftables.TypeIP6Addr}
	r.fill(s, nil)
	rate := &expr.Limit{Type: expr.LimitTypePkts, Rate: perClosedFor(n, time.Minute), Unit: expr.LimitTimeMinute, Burst: uint32(n), Over: true}
	if n < 1000 { // where the remainder counts
		rate.Rate, rate.Unit = perClosedFor(n, time.Hour), expr.LimitTimeHour
	}
	// The registers from 9 on, of 32 bits, have the network.
	r.rule(chain, comesBy(r.config.TUN), protocol(unix.IPPROTO_TCP), isNew(), network, []expr.Any{
		// Who has been silent for closedFor may open n connections, as may whoever
		// is not in the set.
		&expr.Dynset{SrcRegKey: 9, SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: closedFor, Exprs: []expr.Any{rate}},
	}, r.count(chain.Table, NetworkConnections), prohibited())
}

// perClosedFor returns how many of n in closedFor there are in a time unit.
func perClosedFor(n int, unit time.Duration) uint64 {
	return uint64(n) * uint64(unit) / uint64(closedFor)
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
