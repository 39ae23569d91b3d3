package steernft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// attributes is a sequence of netlink attributes (struct nlattr), padded to 4
// bytes each. nf_tables has integers in network byte order.
type attributes []byte

func (a attributes) bytes(typ uint16, data []byte) attributes {
	a = binary.NativeEndian.AppendUint16(a, uint16(unix.SizeofNlAttr+len(data)))
	a = binary.NativeEndian.AppendUint16(a, typ)
	a = append(a, data...)
	return append(a, make([]byte, -len(data)&3)...)
}

func (a attributes) text(typ uint16, s string) attributes { return a.bytes(typ, append([]byte(s), 0)) }

func (a attributes) number(typ uint16, n uint32) attributes {
	return a.bytes(typ, binary.BigEndian.AppendUint32(nil, n))
}

func (a attributes) nest(typ uint16, inner attributes) attributes {
	return a.bytes(typ|unix.NLA_F_NESTED, inner)
}

// value is struct nft_data as an attribute.
func (a attributes) value(typ uint16, data []byte) attributes {
	return a.nest(typ, attributes(nil).bytes(unix.NFTA_DATA_VALUE, data))
}

// each calls f for every attribute in b until the first that is cut short.
func each(b []byte, f func(typ uint16, data []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofNlAttr || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// message is one request to nf_tables.
type message struct {
	what   string // for errors: "add chain uplink"
	typ    uint16 // unix.NFT_MSG_*
	flags  uint16 // besides NLM_F_REQUEST
	family uint8  // unix.NFPROTO_*
	attributes
}

const nfgenmsgLen = 4

// appendHeader appends struct nlmsghdr and struct nfgenmsg of a message with
// content bytes of attributes.
func appendHeader(b []byte, typ, flags uint16, seq uint32, family uint8, resource uint16, content int) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.SizeofNlMsghdr+nfgenmsgLen+content))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0) // port: the kernel's
	b = append(b, family, unix.NFNETLINK_V0)
	return binary.BigEndian.AppendUint16(b, resource)
}

func (m message) append(b []byte, flags uint16, seq uint32) []byte {
	b = appendHeader(b, unix.NFNL_SUBSYS_NFTABLES<<8|m.typ, m.flags|flags, seq, m.family, 0, len(m.attributes))
	return append(b, m.attributes...)
}
