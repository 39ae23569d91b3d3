package nat44

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Bits of the connection's status (include/uapi/linux/netfilter/nf_conntrack_common.h).
const statusDestinationNAT = 1 << 5 // IPS_DST_NAT

func name(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

func meta(k expr.MetaKey) []expr.Any { return []expr.Any{&expr.Meta{Key: k, Register: 1}} }

func compare(op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: op, Register: 1, Data: data}}
}

// Each of these matches an interface, or any other than it.
func comesBy(link string) []expr.Any {
	return append(meta(expr.MetaKeyIIFNAME), compare(expr.CmpOpEq, name(link))...)
}

func comesNotBy(link string) []expr.Any {
	return append(meta(expr.MetaKeyIIFNAME), compare(expr.CmpOpNeq, name(link))...)
}

func leavesBy(link string) []expr.Any {
	return append(meta(expr.MetaKeyOIFNAME), compare(expr.CmpOpEq, name(link))...)
}

func leavesNotBy(link string) []expr.Any {
	return append(meta(expr.MetaKeyOIFNAME), compare(expr.CmpOpNeq, name(link))...)
}

// in looks register 1 up in a set; notIn matches what is not there.
func in(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetID: s.ID, SetName: s.Name}}
}

func notIn(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetID: s.ID, SetName: s.Name, Invert: true}}
}

// mapped replaces register 1 by what a map has for it, up to as many registers
// as its values need; other packets do not match.
func mapped(s *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetID: s.ID, SetName: s.Name}}
}

func load(base expr.PayloadBase, offset, length uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length}}
}

func source4() []expr.Any      { return load(expr.PayloadBaseNetworkHeader, 12, 4) }
func destination4() []expr.Any { return load(expr.PayloadBaseNetworkHeader, 16, 4) }
func destination6() []expr.Any { return load(expr.PayloadBaseNetworkHeader, 24, 16) }

// within matches if register 1 holds an address of p.
func within(p netip.Prefix) []expr.Any {
	p = p.Masked()
	n := p.Addr().BitLen() / 8
	mask := make([]byte, n)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return append([]expr.Any{&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(n), Mask: mask, Xor: make([]byte, n)}},
		compare(expr.CmpOpEq, p.Addr().AsSlice())...)
}

// bits compares bits of a key of the connection: any of them is set, or, with
// [expr.CmpOpEq], none.
func bits(key expr.CtKey, mask uint32, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: make([]byte, 4)},
	}
}

func isNew() []expr.Any { return bits(expr.CtKeySTATE, expr.CtStateBitNEW, expr.CmpOpNeq) }

// unknown matches what belongs to no connection, whatever connection tracking
// thinks of it, and neither begins one to an address that is translated.
func unknown() []expr.Any {
	return append(bits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED, expr.CmpOpEq),
		bits(expr.CtKeySTATUS, statusDestinationNAT, expr.CmpOpEq)...)
}

// noReturn matches packets to whose source no route leads by the interface they
// came by (strict reverse path forwarding, RFC 3704 section 2.2).
func noReturn() []expr.Any {
	return append([]expr.Any{&expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagIIF: true}},
		compare(expr.CmpOpEq, make([]byte, 4))...)
}

func protocol(p uint8) []expr.Any {
	return append(meta(expr.MetaKeyL4PROTO), compare(expr.CmpOpEq, []byte{p})...)
}

// prohibited answers with ICMP destination unreachable, administratively
// prohibited (RFC 1812 section 5.2.7.1).
func prohibited() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 13}}
}

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
