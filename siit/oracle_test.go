package siit_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tnat64d/siit"
)

// The oracle reads packets with gVisor's header package, which shares no code
// with siit.

// parsed is an IP packet taken apart.
type parsed struct {
	version    int
	src, dst   netip.Addr
	tos, ttl   uint8
	flow       uint32
	proto      uint8
	id         uint32
	df, more   bool
	offset     int  // of a fragment, in bytes
	hasFH      bool // IPv6: a Fragment Header is present
	headerLen  int  // bytes before the transport header
	transport  []byte
	extensions int
}

// isFragment tells a part of a datagram; an atomic fragment is whole.
func (p parsed) isFragment() bool { return p.more || p.offset > 0 }

// isICMPError tells an ICMP error message of either version, or a redirect.
func (p parsed) isICMPError() bool {
	if len(p.transport) == 0 || p.offset > 0 {
		return false
	}
	switch typ := p.transport[0]; {
	case p.version == 4 && p.proto == protoICMP:
		return typ == 3 || typ == 4 || typ == 5 || typ == 11 || typ == 12
	case p.version == 6 && p.proto == protoICMPv6:
		return typ < 128 || typ == 137
	}
	return false
}

// parse reads the headers of b; the transport ends where the length field
// says. With quoted, b is what an ICMP error quotes and may be cut short.
func parse(b []byte, quoted bool) (parsed, error) {
	if len(b) == 0 {
		return parsed{}, errors.New("empty")
	}
	if b[0]>>4 == 4 {
		return parse4(b, quoted)
	}
	return parse6(b, quoted)
}

func parse4(b []byte, quoted bool) (parsed, error) {
	h := header.IPv4(b)
	size := len(b)
	if quoted {
		size = 0xffff
	}
	if len(b) < 20 || !h.IsValid(size) || int(h.HeaderLength()) > len(b) {
		return parsed{}, fmt.Errorf("IPv4 header invalid for %d bytes", len(b))
	}
	if !h.IsChecksumValid() {
		return parsed{}, errors.New("IPv4 header checksum wrong")
	}
	end := min(len(b), int(h.TotalLength()))
	tos, _ := h.TOS()
	return parsed{
		version: 4,
		src:     netip.AddrFrom4([4]byte(h.SourceAddressSlice())), dst: netip.AddrFrom4([4]byte(h.DestinationAddressSlice())),
		tos: tos, ttl: h.TTL(), proto: h.Protocol(), id: uint32(h.ID()),
		df: h.Flags()&header.IPv4FlagDontFragment != 0, more: h.More(), offset: int(h.FragmentOffset()),
		headerLen: int(h.HeaderLength()), transport: b[h.HeaderLength():end:end],
	}, nil
}

func parse6(b []byte, quoted bool) (parsed, error) {
	h := header.IPv6(b)
	size := len(b)
	if quoted {
		size = 0xffff + 40
	}
	if len(b) < 40 || !h.IsValid(size) {
		return parsed{}, fmt.Errorf("IPv6 header invalid for %d bytes", len(b))
	}
	tos, flow := h.TOS()
	end := min(len(b), 40+int(h.PayloadLength()))
	p := parsed{
		version: 6,
		src:     netip.AddrFrom16([16]byte(h.SourceAddressSlice())), dst: netip.AddrFrom16([16]byte(h.DestinationAddressSlice())),
		tos: tos, flow: flow, ttl: h.HopLimit(), proto: h.NextHeader(), headerLen: 40,
	}
	for {
		rest := b[p.headerLen:end:end]
		switch p.proto {
		case protoHopByHop, protoRouting, protoDestOpts:
			if len(rest) < 8 || len(rest) < 8+int(rest[1])*8 {
				return parsed{}, errors.New("extension header cut short")
			}
			p.headerLen += 8 + int(rest[1])*8
			p.proto = rest[0]
		case protoFragment:
			if p.hasFH {
				return parsed{}, errors.New("two Fragment Headers")
			}
			fh := header.IPv6Fragment(rest)
			if !fh.IsValid() {
				return parsed{}, errors.New("Fragment Header cut short")
			}
			p.hasFH, p.id, p.more, p.offset = true, fh.ID(), fh.More(), int(fh.FragmentOffset())*8
			p.headerLen += 8
			p.proto = fh.NextHeader()
			p.extensions++
			if p.offset > 0 {
				p.transport = b[p.headerLen:end:end]
				return p, nil
			}
			continue
		default:
			p.transport = rest
			return p, nil
		}
		p.extensions++
	}
}

// sumState is what can be said of a transport checksum.
type sumState int

const (
	sumUnknown sumState = iota // another protocol, a fragment, or UDP without checksum
	sumRight
	sumWrong
)

// transportState checks the transport checksum of p. With NeedsCsum it checks
// the sum of the pseudo-header that stands in its place.
func transportState(p parsed, off siit.Offload) sumState {
	if p.isFragment() {
		return sumUnknown
	}
	b := p.transport
	n := len(b)
	at := 0
	switch p.proto {
	case protoTCP:
		if n < 20 || n < int(b[12]>>4)*4 || b[12]>>4 < 5 {
			return sumUnknown
		}
		at = 16
	case protoUDP:
		if n < 8 {
			return sumUnknown
		}
		// In a UDP_L4 super-packet the field is the length of all of it.
		length := int(binary.BigEndian.Uint16(b[4:]))
		if length < 8 || length > n {
			return sumUnknown
		}
		b = b[:length]
		if off.Flags&siit.NeedsCsum == 0 && b[6] == 0 && b[7] == 0 {
			if p.version == 6 {
				return sumWrong
			}
			return sumUnknown
		}
		at = 6
	case protoICMP:
		if p.version == 6 || n < 8 {
			return sumUnknown
		}
		if off.Flags&siit.NeedsCsum != 0 { // there is no pseudo-header
			return state(sameSum(binary.BigEndian.Uint16(b[2:]), 0))
		}
		return state(header.ICMPv4Checksum(header.ICMPv4(b), 0) == header.ICMPv4(b).Checksum())
	case protoICMPv6:
		if p.version == 4 || n < 8 {
			return sumUnknown
		}
		if off.Flags&siit.NeedsCsum != 0 {
			at = 2
			break
		}
		return state(sameSum(transportSum(protoICMPv6, p.src, p.dst, b), 0xffff))
	default:
		return sumUnknown
	}
	if off.Flags&siit.NeedsCsum != 0 {
		return state(sameSum(binary.BigEndian.Uint16(b[at:]), pseudoSum(p.proto, p.src, p.dst, len(b))))
	}
	return state(transportSum(p.proto, p.src, p.dst, b) == 0xffff)
}

// sameSum compares one's complement sums, in which 0 and 0xffff are the same.
func sameSum(a, b uint16) bool { return a%0xffff == b%0xffff }

func state(right bool) sumState {
	if right {
		return sumRight
	}
	return sumWrong
}

// checkOffload says whether a packet that came out may be handed to the
// kernel with its virtio-net header.
func checkOffload(p parsed, off siit.Offload, size int) error {
	at, hdr := -1, 0
	switch {
	case p.proto == protoTCP && len(p.transport) >= 20:
		at, hdr = 16, int(p.transport[12]>>4)*4
	case p.proto == protoUDP && len(p.transport) >= 8:
		at, hdr = 6, 8
	case p.proto == protoICMP || p.proto == protoICMPv6:
		at = 2
	}
	if off.Flags&siit.NeedsCsum != 0 {
		if p.isFragment() || at < 0 {
			return fmt.Errorf("NeedsCsum on protocol %d, fragment %v", p.proto, p.isFragment())
		}
		if int(off.CsumStart) != p.headerLen || int(off.CsumOffset) != at {
			return fmt.Errorf("checksum at %d+%d, want %d+%d", off.CsumStart, off.CsumOffset, p.headerLen, at)
		}
	}
	switch off.GSOType &^ siit.GSOECN {
	case siit.GSONone:
		if off.GSOType != 0 {
			return errors.New("ECN bit without GSO")
		}
		return nil
	case siit.GSOTCPv4:
		if p.version != 4 || p.proto != protoTCP {
			return fmt.Errorf("GSO TCPv4 on IPv%d protocol %d", p.version, p.proto)
		}
	case siit.GSOTCPv6:
		if p.version != 6 || p.proto != protoTCP {
			return fmt.Errorf("GSO TCPv6 on IPv%d protocol %d", p.version, p.proto)
		}
	case siit.GSOUDPL4:
		if p.proto != protoUDP || off.GSOType != siit.GSOUDPL4 {
			return fmt.Errorf("GSO UDP_L4 (%#x) on protocol %d", off.GSOType, p.proto)
		}
	default:
		return fmt.Errorf("GSO type %#x", off.GSOType)
	}
	if p.isFragment() {
		return errors.New("GSO on a fragment")
	}
	if off.GSOSize == 0 {
		return errors.New("GSO size 0")
	}
	if int(off.HdrLen) != p.headerLen+hdr || int(off.HdrLen) > size {
		return fmt.Errorf("hdr_len %d, want %d of %d", off.HdrLen, p.headerLen+hdr, size)
	}
	return nil
}

// wireSize is the size of the largest packet that p stands for.
func wireSize(p siit.Packet) int {
	n := len(p.Bytes())
	if p.GSOType != siit.GSONone {
		return min(n, int(p.HdrLen)+int(p.GSOSize))
	}
	return n
}
