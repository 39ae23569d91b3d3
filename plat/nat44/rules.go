package nat44

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Timeouts of RFC 6146 section 4: TCP_EST, TCP_TRANS, UDP_DEFAULT.
var (
	tcpTimeouts = expr.CtStatePolicyTimeout{
		expr.CtStateTCPSYNSENT: 240, expr.CtStateTCPSYNRECV: 240, expr.CtStateTCPESTABLISHED: 7440,
		expr.CtStateTCPFINWAIT: 240, expr.CtStateTCPCLOSEWAIT: 240, expr.CtStateTCPLASTACK: 240, expr.CtStateTCPTIMEWAIT: 240,
		expr.CtStateTCPCLOSE: 10, expr.CtStateTCPSYNSENT2: 240, expr.CtStateTCPRETRANS: 300, expr.CtStateTCPUNACK: 300,
	}
	udpTimeouts = expr.CtStatePolicyTimeout{expr.CtStateUDPUNREPLIED: 120, expr.CtStateUDPREPLIED: 300}
)

// maxClients bounds the set that counts connections.
const maxClients = 1 << 16

// Set replaces the rules by those of c. Tracked connections keep their addresses,
// and the count of a client's connections begins anew.
func (r *Ruleset) Set(c Config) error {
	if err := c.check(); err != nil {
		return fmt.Errorf("nat44: %w", err)
	}
	b := &builder{Conn: r.conn, config: c}
	// In one transaction: no packet sees less than the old or the new rules.
	for _, t := range []*nftables.Table{r.v4, r.v6} {
		sets, err := r.conn.GetSets(t)
		if err != nil {
			return fmt.Errorf("nftables: list the sets: %w", err)
		}
		b.clear(t, sets)
	}
	b.table4(r.v4)
	b.table6(r.v6)
	if b.err != nil {
		return fmt.Errorf("nftables: %w", b.err)
	}
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: set the rules: %w", err)
	}
	return nil
}

// builder collects one transaction.
type builder struct {
	*nftables.Conn
	config Config
	err    error
}

func (b *builder) chain(t *nftables.Table, name string, typ nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
	return b.AddChain(&nftables.Chain{Name: name, Table: t, Type: typ, Hooknum: hook, Priority: priority})
}

// chains are the chains of both tables.
func (b *builder) chains(t *nftables.Table) (all map[string]*nftables.Chain) {
	all = map[string]*nftables.Chain{
		"forward": b.chain(t, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter),
	}
	if t.Family == nftables.TableFamilyIPv4 {
		all["timeouts"] = b.chain(t, "timeouts", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle)
		all["source"] = b.chain(t, "source", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
		all["destination"] = b.chain(t, "destination", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	}
	return all
}

// clear empties the chains, adding those that are not there yet, and removes the
// sets.
func (b *builder) clear(t *nftables.Table, sets []*nftables.Set) {
	for _, c := range b.chains(t) {
		b.FlushChain(c)
	}
	for _, set := range sets {
		if !set.Anonymous { // those go with their rule
			b.DelSet(set)
		}
	}
}

func (b *builder) rule(c *nftables.Chain, parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	b.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: all})
}

// set adds an anonymous set.
func (b *builder) set(t *nftables.Table, key nftables.SetDatatype, elements ...[]byte) *nftables.Set {
	s := &nftables.Set{Table: t, Anonymous: true, Constant: true, KeyType: key, KeyByteOrder: binaryutil.NativeEndian}
	var all []nftables.SetElement
	for _, e := range elements {
		all = append(all, nftables.SetElement{Key: e})
	}
	b.failed(b.AddSet(s, all))
	return s
}

func (b *builder) failed(err error) {
	if b.err == nil {
		b.err = err
	}
}

// count adds a counter, if it is not there yet, and returns what counts.
func (b *builder) count(t *nftables.Table, c Count) []expr.Any {
	b.AddObj(&nftables.CounterObj{Table: t, Name: string(c)})
	return []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: string(c)}}
}

func name(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

func meta(k expr.MetaKey) []expr.Any { return []expr.Any{&expr.Meta{Key: k, Register: 1}} }

func compare(op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: op, Register: 1, Data: data}}
}

// comes and leaves match an interface.
func comes(link string) []expr.Any {
	return append(meta(expr.MetaKeyIIFNAME), compare(expr.CmpOpEq, name(link))...)
}

func leaves(link string) []expr.Any {
	return append(meta(expr.MetaKeyOIFNAME), compare(expr.CmpOpEq, name(link))...)
}

// notIn matches if the interface of k is none of links.
func (b *builder) notIn(t *nftables.Table, k expr.MetaKey, links ...string) []expr.Any {
	var names [][]byte
	for _, l := range links {
		names = append(names, name(l))
	}
	s := b.set(t, nftables.TypeIFName, names...)
	return append(meta(k), &expr.Lookup{SourceRegister: 1, SetID: s.ID, SetName: s.Name, Invert: true})
}

func load(base expr.PayloadBase, offset, length uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length}}
}

var (
	source      = func() []expr.Any { return load(expr.PayloadBaseNetworkHeader, 12, 4) }
	destination = func() []expr.Any { return load(expr.PayloadBaseNetworkHeader, 16, 4) }
)

// fromPool matches packets with a source in the pool.
func (b *builder) fromPool() []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(uint64(1)<<(32-b.config.Pool.Bits())-1))
	return append(append(source(), &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)}),
		compare(expr.CmpOpEq, b.config.Pool.Masked().Addr().AsSlice())...)
}

func isNew() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// prohibited answers with ICMP destination unreachable, administratively
// prohibited (RFC 1812 section 5.2.7.1).
func prohibited() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 13}}
}

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

func protocol(p uint8) []expr.Any {
	return append(meta(expr.MetaKeyL4PROTO), compare(expr.CmpOpEq, []byte{p})...)
}

func (b *builder) table6(t *nftables.Table) {
	all := b.chains(t)
	if len(b.config.Inside) > 0 {
		b.rule(all["forward"], leaves(b.config.TUN), b.notIn(t, expr.MetaKeyIIFNAME, append([]string{b.config.TUN}, b.config.Inside...)...), b.count(t, NotInside), drop())
	}
}

func (b *builder) table4(t *nftables.Table) {
	c, all := b.config, b.chains(t)
	if len(c.Outside) > 0 {
		b.rule(all["forward"], comes(c.TUN), b.notIn(t, expr.MetaKeyOIFNAME, append([]string{c.TUN}, c.Outside...)...), b.count(t, NotOutside), prohibited())
	}
	if c.ConnectionsPerClient > 0 {
		s := &nftables.Set{Table: t, Name: "connections", KeyType: nftables.TypeIPAddr, Dynamic: true, Size: maxClients}
		b.failed(b.AddSet(s, nil))
		b.rule(all["forward"], comes(c.TUN), isNew(), source(),
			[]expr.Any{&expr.Dynset{
				SrcRegKey: 1, SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_ADD,
				Exprs: []expr.Any{&expr.Connlimit{Count: uint32(c.ConnectionsPerClient), Flags: expr.NFT_CONNLIMIT_F_INV}},
			}}, b.count(t, Connections), prohibited())
	}
	b.timeouts(all["timeouts"])
	b.forwards(all["destination"])
	b.sourceNAT(all["source"])
}

// timeouts gives the connections from the TUN, and those that are forwarded to a
// client, the timeouts of RFC 6146.
func (b *builder) timeouts(chain *nftables.Chain) {
	for _, p := range []struct {
		name   string
		number uint8
		policy expr.CtStatePolicyTimeout
	}{{"tcp", unix.IPPROTO_TCP, tcpTimeouts}, {"udp", unix.IPPROTO_UDP, udpTimeouts}} {
		b.AddObj(&nftables.NamedObj{
			Table: chain.Table, Name: p.name, Type: nftables.ObjTypeCtTimeout,
			Obj: &expr.CtTimeout{L3Proto: unix.NFPROTO_IPV4, L4Proto: p.number, Policy: p.policy},
		})
		b.rule(chain, comes(b.config.TUN), protocol(p.number), isNew(), []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCtTimeout), Name: p.name}})
	}
}

func (b *builder) forwards(chain *nftables.Chain) {
	for _, f := range b.config.Forwards {
		b.rule(chain, destination(), compare(expr.CmpOpEq, f.Outside.Addr().AsSlice()), protocol(f.Protocol),
			load(expr.PayloadBaseTransportHeader, 2, 2), compare(expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, f.Outside.Port())),
			[]expr.Any{
				&expr.Immediate{Register: 1, Data: f.Inside.Addr().AsSlice()},
				&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, f.Inside.Port())},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
			})
	}
}

// sourceNAT changes the source of what leaves, but not by the TUN: two hosts inside
// see each other by the addresses of the pool.
func (b *builder) sourceNAT(chain *nftables.Chain) {
	c := b.config
	out := append(append(meta(expr.MetaKeyOIFNAME), compare(expr.CmpOpNeq, name(c.TUN))...), b.fromPool()...)
	switch {
	case c.Mode == Masquerade:
		b.rule(chain, out, []expr.Any{&expr.Masq{}})
	case c.Mode == Pool && c.PortsPerClient > 0:
		b.fixedPorts(chain, out)
	case c.Mode == Pool:
		b.shared(chain, out)
	}
}

// shared spreads the clients over the addresses: one client always has the same
// (RFC 6888 REQ-2).
func (b *builder) shared(chain *nftables.Chain, out []expr.Any) {
	all := b.config.addresses()
	s := &nftables.Set{
		Table: chain.Table, Name: "addresses", IsMap: true, KeyType: nftables.TypeInteger, DataType: nftables.TypeIPAddr,
	}
	var elements []nftables.SetElement
	for i, a := range all {
		elements = append(elements, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: a.AsSlice()})
	}
	b.failed(b.AddSet(s, elements))
	b.rule(chain, out, source(), []expr.Any{
		&expr.Hash{SourceRegister: 1, DestRegister: 1, Length: 4, Modulus: uint32(len(all)), Type: expr.HashTypeJenkins},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetID: s.ID, SetName: s.Name},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	})
}

// fixedPorts gives each client its range of ports. What has no ports, and what
// has an identifier instead (ICMP), gets the address only.
func (b *builder) fixedPorts(chain *nftables.Chain, out []expr.Any) {
	c := b.config
	s := &nftables.Set{
		Table: chain.Table, Name: "ports", IsMap: true, KeyType: nftables.TypeIPAddr,
		// First address, first port, last address, last port, each in 4 bytes.
		DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService, nftables.TypeIPAddr, nftables.TypeInetService),
	}
	var elements []nftables.SetElement
	n := c.Clients()
	for i, a := 0, c.Pool.Masked().Addr().Next().Next(); i < n && c.Pool.Contains(a); i, a = i+1, a.Next() {
		outside, first, last, _ := c.Ports(a)
		elements = append(elements, nftables.SetElement{Key: a.AsSlice(), Val: portRange(outside, first, last)})
	}
	b.failed(b.AddSet(s, elements))
	lookup := []expr.Any{&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetID: s.ID, SetName: s.Name}}
	// Register 1 is the 32-bit registers 8 to 11.
	withPorts := []expr.Any{&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 8, RegAddrMax: 10, RegProtoMin: 9, RegProtoMax: 11, Specified: true}}
	for _, p := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		b.rule(chain, out, protocol(p), source(), lookup, withPorts)
	}
	b.rule(chain, out, source(), lookup, []expr.Any{&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 8, RegAddrMax: 10}})
}

func portRange(a netip.Addr, first, last uint16) (v []byte) {
	for _, p := range []uint16{first, last} {
		v = append(v, a.AsSlice()...)
		v = append(binary.BigEndian.AppendUint16(v, p), 0, 0)
	}
	return v
}
