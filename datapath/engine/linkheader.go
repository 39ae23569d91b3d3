package engine

import (
	"encoding/binary"

	"tnat64d/siit"
)

// nf_tables hands packets to a TUN with their Ethernet header in front, with
// and without a VLAN tag. Its rules (package steernft) set the first byte of
// that header to 0, which no IP packet begins with.
const (
	ethernetLen = 14
	vlanTagLen  = 4

	etherTypeIPv6 = 0x86dd
	etherTypeVLAN = 0x8100
)

// linkHeaderLen returns the length in bytes of the link header in front of an
// IPv6 packet; 0 if there is none.
func linkHeaderLen(frame []byte) int {
	if len(frame) < ethernetLen+vlanTagLen || frame[0]>>4 != 0 {
		return 0
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeIPv6:
		return ethernetLen
	case etherTypeVLAN:
		if binary.BigEndian.Uint16(frame[16:]) == etherTypeIPv6 {
			return ethernetLen + vlanTagLen
		}
	}
	return 0
}

// stripLinkHeader moves the beginning of p to its IP header. The offsets of the
// virtio-net header move with it; what they point at stays where it is.
func stripLinkHeader(p *siit.Packet) {
	n := linkHeaderLen(p.Bytes())
	if n == 0 {
		return
	}
	p.Off += n
	sub := func(v *uint16) { *v -= min(*v, uint16(n)) }
	sub(&p.Offload.HdrLen)
	sub(&p.Offload.CsumStart)
}

// raiseHopLimit adds one to the hop limit of an IPv6 packet that will lose one
// on its way out, besides the one that translation takes. 255 stays.
func raiseHopLimit(p *siit.Packet) {
	if b := p.Bytes(); len(b) >= 40 && b[0]>>4 == 6 && b[7] < 255 {
		b[7]++
	}
}

// SetTakesHop says whether the steering takes one from the hop limit of the
// IPv6 packets that the engine sends. It may be called at any time by any
// goroutine.
func (e *Engine) SetTakesHop(takes bool) { e.takesHop.Store(takes) }
