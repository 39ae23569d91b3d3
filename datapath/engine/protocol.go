package engine

import "tnat64d/siit"

// Protocol sorts packets for counting.
type Protocol uint8

// ICMP is both ICMP and ICMPv6. Errors are counted apart: they may come from
// this side of the PLAT, and so prove nothing about it.
const (
	TCP Protocol = iota
	UDP
	ICMP
	ICMPError
	Other

	// NumProtocols is the number of protocols, for arrays of counters.
	NumProtocols
)

// String returns the word for p in metrics and status.
func (p Protocol) String() string {
	return [NumProtocols]string{"tcp", "udp", "icmp", "icmp-error", "other"}[p]
}

// protocolOf takes the protocol from what a packet was translated to, where
// no extension headers hide it but the Fragment Header.
func protocolOf(out []siit.Packet) Protocol {
	if len(out) == 0 {
		return Other
	}
	p := out[0].Bytes()
	n, header := p[9], 20
	if p[0]>>4 == 6 {
		if n, header = p[6], 40; n == 44 {
			n, header = p[40], 48
		}
	}
	switch n {
	case 6:
		return TCP
	case 17:
		return UDP
	case 1, 58:
		if len(p) > header && icmpError(n, p[header]) {
			return ICMPError
		}
		return ICMP
	}
	return Other
}

// icmpError reports whether an ICMP (1) or ICMPv6 (58) message is an error.
func icmpError(protocol, typ byte) bool {
	if protocol == 58 {
		return typ < 128 // RFC 4443 section 2.1
	}
	return typ == 3 || typ == 11 || typ == 12
}
