package siit

// Protocol numbers that translation has to know.
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoIGMP     = 2
	protoTCP      = 6
	protoUDP      = 17
	protoDCCP     = 33
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoICMPv6   = 58
	protoDestOpts = 60
	protoMobility = 135
	protoUDPLite  = 136
	protoHIP      = 139
	protoShim6    = 140
)

// checksumField returns where in the payload of an IP packet the transport
// checksum stands that covers the addresses, or 0 when there is none that we
// know of, as in later fragments.
func checksumField(payload []byte, proto uint8, fragOff int) (int, Reason) {
	if fragOff != 0 {
		return 0, None
	}
	var field, header int
	switch proto {
	case protoTCP:
		field, header = 16, 20
	case protoUDP, protoUDPLite:
		field, header = 6, 8
	case protoDCCP:
		field, header = 6, 12
	default:
		return 0, None
	}
	if len(payload) < header {
		return 0, Truncated
	}
	return field, None
}

func isZero(field []byte) bool { return field[0]|field[1] == 0 }
