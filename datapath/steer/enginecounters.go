package steer

// EngineCounters are packets that the kernel engine has seen since New. It
// translates them or leaves them to user space, where they are counted again.
type EngineCounters struct {
	To6, To4 DirectionCounters
}

// DirectionCounters are those of one direction.
type DirectionCounters struct {
	TCP, UDP, Echo Amount // translated
	Declined       [NumDeclined]uint64
}

// Amount is a number of packets, a super-packet counting once, and their bytes
// before translation, IP headers included.
type Amount struct{ Packets, Bytes uint64 }

// Declined is roughly why a packet was left to user space. Many of those are
// translated there; which are not, and precisely why, only user space knows.
type Declined uint8

// In the order of enum declined in bpf/engine.h.
const (
	DeclinedMalformed Declined = iota // lengths that lie, wrong header checksum
	DeclinedAddress                   // not between one of the CLAT's addresses and PREF64, or an illegal address
	DeclinedTTL                       // 0 or 1
	DeclinedHeader                    // fragments, IPv4 options, IPv6 extension headers, VLAN tags
	DeclinedProtocol                  // not TCP, UDP or ICMP
	DeclinedICMP                      // not echo, or a large one
	DeclinedChecksum                  // UDP without one, wrong one of ICMP
	DeclinedSize                      // must be fragmented or refused
	DeclinedOffload                   // a super-packet of a kind that is not understood
	DeclinedMemory                    // the kernel had none
	DeclinedOrder                     // user space has not finished with an earlier packet of the flow
	DeclinedRoute                     // a route rejects it

	// NumDeclined is the number of reasons, for arrays of counters.
	NumDeclined
)

// String returns the kebab-case name.
func (d Declined) String() string {
	return [NumDeclined]string{"malformed", "address", "ttl", "header", "protocol", "icmp", "checksum", "size", "offload", "memory", "order", "route"}[d]
}

// EngineCounters returns the sum over all CPUs. The packets of one moment may
// be counted in part.
func (e *Engine) EngineCounters() (EngineCounters, error) {
	var sum EngineCounters
	for way, d := range []*DirectionCounters{&sum.To6, &sum.To4} { // enum way
		protocols := []*Amount{&d.TCP, &d.UDP, &d.Echo} // enum protocol
		for i, a := range protocols {
			var cpus []bpfAmount
			if err := e.objects.Translated.Lookup(uint32(way*len(protocols)+i), &cpus); err != nil {
				return EngineCounters{}, &Error{"read the kernel engine's counters", err}
			}
			for _, c := range cpus {
				a.Packets += c.Packets
				a.Bytes += c.Bytes
			}
		}
		for i := range d.Declined {
			var cpus []uint64
			if err := e.objects.Declined.Lookup(uint32(way*len(d.Declined)+i), &cpus); err != nil {
				return EngineCounters{}, &Error{"read the kernel engine's counters", err}
			}
			for _, n := range cpus {
				d.Declined[i] += n
			}
		}
	}
	return sum, nil
}

// Explanation returns in words why packets took the slow path.
func (d Declined) Explanation() string {
	return [NumDeclined]string{
		"the packet is malformed",
		"the kernel engine has no mapping for the addresses, or they are denied or illegal",
		"the TTL or hop limit expires here",
		"fragment, IPv4 options, IPv6 extension headers or a VLAN tag",
		"the protocol is neither TCP nor UDP nor ICMP",
		"ICMP other than a small echo",
		"no UDP checksum, or a wrong ICMP checksum",
		"larger than the MTU",
		"a super-packet of a kind that the kernel engine does not support",
		"the kernel was out of memory",
		"an earlier packet between the same addresses is still in user space",
		"a route of the host rejects the destination",
	}[d]
}
