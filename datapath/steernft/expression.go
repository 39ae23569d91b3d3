package steernft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// expression is one step of a rule, as an element of NFTA_RULE_EXPRESSIONS. A
// rule runs from its first expression to the first comparison that fails.
type expression attributes

// Registers hold 16 bytes each.
const (
	reg1 = unix.NFT_REG_1
	reg2 = unix.NFT_REG_2
)

// Attributes and objects that x/sys/unix lacks (linux/netfilter/nf_tables.h).
const (
	fwdAddress  = 2 // NFTA_FWD_SREG_ADDR
	fwdFamily   = 3 // NFTA_FWD_NFPROTO
	objCounter  = 1 // NFT_OBJECT_COUNTER
	tableOwner  = 2 // NFT_TABLE_F_OWNER
	typeAddress = 8 // TYPE_IP6ADDR of nft(8), which shows sets by it
)

func expr(name string, data attributes) expression {
	a := attributes(nil).text(unix.NFTA_EXPR_NAME, name).nest(unix.NFTA_EXPR_DATA, data)
	return expression(attributes(nil).nest(unix.NFTA_LIST_ELEM, a))
}

// meta loads a property of the packet, in host byte order but the protocols.
func meta(key uint32) expression {
	return expr("meta", attributes(nil).number(unix.NFTA_META_DREG, reg1).number(unix.NFTA_META_KEY, key))
}

// load loads length bytes of a header; a packet that lacks them does not match.
func load(base, offset, length uint32) expression {
	return expr("payload", attributes(nil).number(unix.NFTA_PAYLOAD_DREG, reg1).number(unix.NFTA_PAYLOAD_BASE, base).
		number(unix.NFTA_PAYLOAD_OFFSET, offset).number(unix.NFTA_PAYLOAD_LEN, length))
}

// store overwrites one byte of the link header.
func store(offset uint32, b byte) []expression {
	return []expression{
		immediate(reg1, []byte{b}),
		expr("payload", attributes(nil).number(unix.NFTA_PAYLOAD_SREG, reg1).number(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_LL_HEADER).
			number(unix.NFTA_PAYLOAD_OFFSET, offset).number(unix.NFTA_PAYLOAD_LEN, 1).
			number(unix.NFTA_PAYLOAD_CSUM_TYPE, unix.NFT_PAYLOAD_CSUM_NONE)),
	}
}

// compare goes on if register 1 compares with data, by op (unix.NFT_CMP_*).
func compare(op uint32, data []byte) expression {
	return expr("cmp", attributes(nil).number(unix.NFTA_CMP_SREG, reg1).number(unix.NFTA_CMP_OP, op).value(unix.NFTA_CMP_DATA, data))
}

// masked keeps the bits of mask in register 1.
func masked(mask []byte) expression {
	return expr("bitwise", attributes(nil).number(unix.NFTA_BITWISE_SREG, reg1).number(unix.NFTA_BITWISE_DREG, reg1).
		number(unix.NFTA_BITWISE_LEN, uint32(len(mask))).
		value(unix.NFTA_BITWISE_MASK, mask).value(unix.NFTA_BITWISE_XOR, make([]byte, len(mask))))
}

func immediate(reg uint32, data []byte) expression {
	return expr("immediate", attributes(nil).number(unix.NFTA_IMMEDIATE_DREG, reg).value(unix.NFTA_IMMEDIATE_DATA, data))
}

// verdict ends a rule: accept leaves the packet to the kernel, drop discards it.
func verdict(code int32, chain string) expression {
	v := attributes(nil).number(unix.NFTA_VERDICT_CODE, uint32(code))
	if chain != "" {
		v = v.text(unix.NFTA_VERDICT_CHAIN, chain)
	}
	data := attributes(nil).nest(unix.NFTA_DATA_VERDICT, v)
	return expr("immediate", attributes(nil).number(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT).nest(unix.NFTA_IMMEDIATE_DATA, data))
}

func accept() expression { return verdict(verdictAccept, "") }
func drop() expression   { return verdict(verdictDrop, "") }

const (
	verdictDrop   = 0 // NF_DROP
	verdictAccept = 1 // NF_ACCEPT
)

// isIn goes on if register 1 is in the set, or is not.
func isIn(s set, wanted bool) expression {
	a := attributes(nil).text(unix.NFTA_LOOKUP_SET, s.name).number(unix.NFTA_LOOKUP_SREG, reg1).number(unix.NFTA_LOOKUP_SET_ID, s.id)
	if !wanted {
		a = a.number(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
	}
	return expr("lookup", a)
}

// mapped replaces register 1 by what the map has for it, if it has.
func mapped(s set) expression {
	return expr("lookup", attributes(nil).text(unix.NFTA_LOOKUP_SET, s.name).number(unix.NFTA_LOOKUP_SREG, reg1).
		number(unix.NFTA_LOOKUP_DREG, reg1).number(unix.NFTA_LOOKUP_SET_ID, s.id))
}

// count counts the packet by a counter of the table.
func count(c Count) expression {
	return expr("objref", attributes(nil).number(unix.NFTA_OBJREF_IMM_TYPE, objCounter).text(unix.NFTA_OBJREF_IMM_NAME, c.String()))
}

// forward transmits the packet by a link as it is, link header included.
func forward(link int) []expression {
	return []expression{
		immediate(reg2, binary.NativeEndian.AppendUint32(nil, uint32(link))),
		expr("fwd", attributes(nil).number(unix.NFTA_FWD_SREG_DEV, reg2)),
	}
}

// forwardTo transmits an IPv6 packet to the neighbour in register 1, and takes
// one off its hop limit.
func forwardTo(link int) []expression {
	return []expression{
		immediate(reg2, binary.NativeEndian.AppendUint32(nil, uint32(link))),
		expr("fwd", attributes(nil).number(unix.NFTA_FWD_SREG_DEV, reg2).number(fwdAddress, reg1).number(fwdFamily, unix.NFPROTO_IPV6)),
	}
}

// rule joins expressions and lists of them.
func rule(parts ...any) (r attributes) {
	for _, p := range parts {
		switch p := p.(type) {
		case expression:
			r = append(r, p...)
		case []expression:
			for _, e := range p {
				r = append(r, e...)
			}
		}
	}
	return r
}
