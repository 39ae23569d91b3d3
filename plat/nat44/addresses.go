package nat44

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

var (
	// A port takes four bytes where it stands beside others, two of them empty.
	addressAndPort = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	rangeOfPorts   = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService, nftables.TypeIPAddr, nftables.TypeInetService)
)

func endpoint(a netip.Addr, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(a.AsSlice(), port), 0, 0)
}

// addresses are the rules that change addresses and ports of connections, in a table
// of IPv4. They share the batch of the other rules.
type addresses struct {
	*batch
	config Config
}

// forwards changes the destination of what comes to a forwarded port.
func (r addresses) forwards(chain *nftables.Chain) {
	for _, p := range []struct {
		number uint8
		name   string
	}{{unix.IPPROTO_TCP, "forwards_tcp"}, {unix.IPPROTO_UDP, "forwards_udp"}} {
		var elements []nftables.SetElement
		for _, f := range r.config.Forwards {
			if f.Protocol == p.number {
				elements = append(elements, nftables.SetElement{Key: endpoint(f.Outside.Addr(), f.Outside.Port()), Val: endpoint(f.Inside.Addr(), f.Inside.Port())})
			}
		}
		if len(elements) == 0 {
			continue
		}
		s := &nftables.Set{Table: chain.Table, Name: p.name, IsMap: true, Concatenation: true, KeyType: addressAndPort, DataType: addressAndPort}
		r.fill(s, elements)
		// Registers 8 to 11, of 32 bits, are register 1.
		r.rule(chain, protocol(p.number), []expr.Any{
			&expr.Payload{DestRegister: 8, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Payload{DestRegister: 9, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		}, mapped(s), []expr.Any{
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 8, RegProtoMin: 9, Specified: true},
		})
	}
}

// sourceNAT changes the source of what leaves, but not by the TUN: two hosts inside
// see each other by the addresses of the pool.
func (r addresses) sourceNAT(chain *nftables.Chain) {
	c := r.config
	r.hairpin(chain)
	out := append(append(leavesNotBy(c.TUN), source4()...), within(c.Pool)...)
	switch {
	case c.Mode == Masquerade:
		r.rule(chain, out, []expr.Any{&expr.Masq{}})
	case c.Mode == Pool && c.PortsPerClient > 0:
		r.fixedPorts(chain, out)
	case c.Mode == Pool:
		r.shared(chain, out)
	}
}

// hairpin gives a connection from one host inside to a forwarded port of another
// the outside address as source, by which it would have come from elsewhere (RFC
// 4787 section 6, RFC 5382 section 7.2).
func (r addresses) hairpin(chain *nftables.Chain) {
	if len(r.config.Forwards) == 0 {
		return
	}
	tun := r.config.TUN
	r.rule(chain, comesBy(tun), leavesBy(tun), bits(expr.CtKeySTATUS, statusDestinationNAT, expr.CmpOpNeq), []expr.Any{
		&expr.Ct{Key: expr.CtKeyDST, Direction: ctOriginal, Register: 1},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	})
}

// ctOriginal is the direction of who began a connection (IP_CT_DIR_ORIGINAL).
const ctOriginal = 0

// shared spreads the clients over the addresses: one client always has the same
// (RFC 6888 REQ-2).
func (r addresses) shared(chain *nftables.Chain, out []expr.Any) {
	s := &nftables.Set{Table: chain.Table, Name: "addresses", IsMap: true, KeyType: nftables.TypeInteger, DataType: nftables.TypeIPAddr}
	var elements []nftables.SetElement
	n := count(r.config.Addresses)
	for i := range n {
		elements = append(elements, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: at(r.config.Addresses, i).AsSlice()})
	}
	r.fill(s, elements)
	r.rule(chain, out, source4(),
		[]expr.Any{&expr.Hash{SourceRegister: 1, DestRegister: 1, Length: 4, Modulus: uint32(n), Type: expr.HashTypeJenkins}},
		mapped(s), []expr.Any{&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1}})
}

// fixedPorts gives each client its range of ports. What has no ports, and what
// has an identifier instead (ICMP), gets the address only.
func (r addresses) fixedPorts(chain *nftables.Chain, out []expr.Any) {
	c := r.config
	s := &nftables.Set{Table: chain.Table, Name: "ports", IsMap: true, KeyType: nftables.TypeIPAddr, DataType: rangeOfPorts}
	var elements []nftables.SetElement
	for i, a := 0, c.Pool.Masked().Addr().Next().Next(); i < c.Clients() && c.Pool.Contains(a); i, a = i+1, a.Next() {
		outside, first, last, _ := c.Ports(a)
		elements = append(elements, nftables.SetElement{Key: a.AsSlice(), Val: append(endpoint(outside, first), endpoint(outside, last)...)})
	}
	r.fill(s, elements)
	// Registers 8 to 11, of 32 bits, are register 1.
	withPorts := []expr.Any{&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 8, RegAddrMax: 10, RegProtoMin: 9, RegProtoMax: 11, Specified: true}}
	for _, p := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		r.rule(chain, out, protocol(p), source4(), mapped(s), withPorts)
	}
	r.rule(chain, out, source4(), mapped(s), []expr.Any{&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 8, RegAddrMax: 10}})
}
