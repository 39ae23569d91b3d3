package engine

import "tnat64d/siit"

// Protocol sorts packets for counting.
type Protocol uint8

// ICMP is both ICMP and ICMPv6.
const (
	TCP Protocol = iota
	UDP
	ICMP
	Other

	// NumProtocols is the number of protocols, for arrays of counters.
	NumProtocols
)

// String returns the word for p in metrics and status.
func (p Protocol) String() string {
	return [NumProtocols]string{"tcp", "udp", "icmp", "other"}[p]
}

// protocolOf takes the protocol from what a packet was translated to, where
// no extension headers hide it but the Fragment Header.
func protocolOf(out []siit.Packet) Protocol {
	if len(out) == 0 {
		return Other
	}
	p := out[0].Bytes()
	n := p[9]
	if p[0]>>4 == 6 {
		if n = p[6]; n == 44 {
			n = p[40]
		}
	}
	switch n {
	case 6:
		return TCP
	case 17:
		return UDP
	case 1, 58:
		return ICMP
	}
	return Other
}
