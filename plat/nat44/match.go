package nat44

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Bits of the connection's status (include/uapi/linux/netfilter/nf_conntrack_common.h).
const (
	statusConfirmed      = 1 << 3 // IPS_CONFIRMED: its first packet has left
	statusDestinationNAT = 1 << 5 // IPS_DST_NAT
)

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
func comesBy(link string) []expr.Any { return by(expr.MetaKeyIIFNAME, link) }

func comesNotBy(link string) []expr.Any { return notBy(expr.MetaKeyIIFNAME, []string{link}) }

func leavesBy(link string) []expr.Any { return by(expr.MetaKeyOIFNAME, link) }

func leavesNotBy(link string) []expr.Any { return notBy(expr.MetaKeyOIFNAME, []string{link}) }

func by(k expr.MetaKey, link string) []expr.Any {
	return append(meta(k), compare(expr.CmpOpEq, name(link))...)
}

// notBy matches what none of some names is.
func notBy(k expr.MetaKey, links []string) []expr.Any {
	all := meta(k)
	for _, l := range links {
		all = append(all, compare(expr.CmpOpNeq, name(l))...)
	}
	return all
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
func within(p netip.Prefix) []expr.Any { return prefix(expr.CmpOpEq, p) }

// notWithin matches if it holds any other.
func notWithin(p netip.Prefix) []expr.Any { return prefix(expr.CmpOpNeq, p) }

func prefix(op expr.CmpOp, p netip.Prefix) []expr.Any {
	p = p.Masked()
	return append([]expr.Any{mask(p.Bits(), p.Addr().BitLen())}, compare(op, p.Addr().AsSlice())...)
}

// mask clears all but the first bits of an address of a length in bits in register 1.
func mask(bits, length int) expr.Any {
	m := make([]byte, length/8)
	for i := range bits {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(m)), Mask: m, Xor: make([]byte, len(m))}
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

// invalid matches what connection tracking assigns to no connection, such as an ICMP
// error about none. It has no status, so that no rule that asks for one matches.
func invalid() []expr.Any {
	return bits(expr.CtKeySTATE, expr.CtStateBitINVALID|expr.CtStateBitUNTRACKED, expr.CmpOpNeq)
}

// unknown matches what begins a connection, but not to an address that is
// translated.
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
