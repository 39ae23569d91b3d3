package steer

import (
	"encoding/binary"
	"net/netip"
)

// The packets of the tests, as bytes. Checksums are right: kernels receive them.

const (
	protoHopByHop = 0
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoICMPv6   = 58
	protoDstOpts  = 60

	typeEchoRequest = 128
	typeEchoReply   = 129
	typeMLDQuery    = 130
	typeNS          = 135
	typeNA          = 136
	typeMLDv2Report = 143
)

// ipv6 puts an IPv6 header with hop limit 255 in front of payload.
func ipv6(src, dst netip.Addr, next byte, payload []byte) []byte {
	p := make([]byte, 40, 40+len(payload))
	p[0] = 0x60
	binary.BigEndian.PutUint16(p[4:], uint16(len(payload)))
	p[6], p[7] = next, 255
	copy(p[8:], src.AsSlice())
	copy(p[24:], dst.AsSlice())
	return append(p, payload...)
}

// extension puts an 8-byte extension header of padding in front of payload.
// Its first octet is the next header; for hop-by-hop use it as it is, for
// others the layout is near enough.
func extension(next byte, payload []byte) []byte {
	return append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, payload...)
}

// hopByHopAlert is the hop-by-hop header of MLD: Router Alert.
func hopByHopAlert(payload []byte) []byte {
	return append([]byte{protoICMPv6, 0, 5, 2, 0, 0, 1, 0}, payload...)
}

// icmpv6 is an ICMPv6 message with its checksum for src and dst.
func icmpv6(src, dst netip.Addr, typ byte, body []byte) []byte {
	m := append([]byte{typ, 0, 0, 0}, body...)
	binary.BigEndian.PutUint16(m[2:], ^transportSum(src, dst, protoICMPv6, len(m), m))
	return m
}

func echo(src, dst netip.Addr, typ byte, seq uint16, size int) []byte {
	body := make([]byte, 4+size)
	body[0], body[1] = 0x64, 0x64
	binary.BigEndian.PutUint16(body[2:], seq)
	return ipv6(src, dst, protoICMPv6, icmpv6(src, dst, typ, body))
}

func udp(src, dst netip.Addr, size int) []byte {
	d := make([]byte, 8+size)
	binary.BigEndian.PutUint16(d, 1111)
	binary.BigEndian.PutUint16(d[2:], 2222)
	binary.BigEndian.PutUint16(d[4:], uint16(len(d)))
	binary.BigEndian.PutUint16(d[6:], ^transportSum(src, dst, protoUDP, len(d), d))
	return ipv6(src, dst, protoUDP, d)
}

// tcpSuper is a TCP super-packet without options whose checksum field holds
// the sum of the pseudo-header, as it goes with needs-checksum.
func tcpSuper(src, dst netip.Addr, size int) []byte {
	s := make([]byte, 20+size)
	binary.BigEndian.PutUint16(s, 1111)
	binary.BigEndian.PutUint16(s[2:], 2222)
	s[12], s[13] = 5<<4, 0x10 // data offset; ACK
	binary.BigEndian.PutUint16(s[14:], 65535)
	binary.BigEndian.PutUint16(s[16:], transportSum(src, dst, protoTCP, len(s), nil))
	for i := range s[20:] {
		s[20+i] = byte(i)
	}
	return ipv6(src, dst, protoTCP, s)
}

func transportSum(src, dst netip.Addr, proto byte, length int, data []byte) uint16 {
	sum := uint32(proto) + uint32(length)
	add := func(b []byte) {
		for i, x := range b {
			if i%2 == 0 {
				sum += uint32(x) << 8
			} else {
				sum += uint32(x)
			}
			sum = sum&0xffff + sum>>16
		}
	}
	add(src.AsSlice())
	add(dst.AsSlice())
	add(data)
	return uint16(sum&0xffff + sum>>16)
}

func ipv4(src, dst netip.Addr) []byte {
	p := make([]byte, 28)
	p[0], p[3], p[8], p[9] = 0x45, 28, 64, protoUDP
	copy(p[12:], src.AsSlice())
	copy(p[16:], dst.AsSlice())
	return p
}

// ethernet puts an Ethernet header in front of a packet.
func ethernet(dst, src []byte, ethertype uint16, payload []byte) []byte {
	f := make([]byte, 14, 14+len(payload))
	copy(f, dst)
	copy(f[6:], src)
	binary.BigEndian.PutUint16(f[12:], ethertype)
	return append(f, payload...)
}

// vnetHeader is struct virtio_net_hdr as a TUN and a packet socket carry it.
type vnetHeader struct {
	flags, gsoType                         uint8
	hdrLen, gsoSize, csumStart, csumOffset uint16
}

const vnetHeaderLen = 10

func (v vnetHeader) bytes() []byte {
	b := []byte{v.flags, v.gsoType}
	for _, x := range []uint16{v.hdrLen, v.gsoSize, v.csumStart, v.csumOffset} {
		b = binary.NativeEndian.AppendUint16(b, x)
	}
	return b
}

func parseVnetHeader(b []byte) vnetHeader {
	u16 := func(i int) uint16 { return binary.NativeEndian.Uint16(b[i:]) }
	return vnetHeader{b[0], b[1], u16(2), u16(4), u16(6), u16(8)}
}
