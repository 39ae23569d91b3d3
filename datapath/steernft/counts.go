package steernft

// Count is what became of packets. The word is the name of the counter in the
// table, where `nft list table` shows it too.
type Count uint8

const (
	SteeredIn     Count = iota // from the uplink to user space
	LeftToKernel               // neighbour discovery and MLD for one of our addresses
	SteeredOut                 // from user space towards the uplink
	ForeignSource              // dropped: IPv6 from user space with a source that is not ours
	Unroutable                 // dropped: IPv6 from user space for which the uplink has no next hop
	LeakedIPv4                 // dropped: untranslated IPv4 of a CLAT on its way out
	LeakedIPv6                 // dropped: IPv6 from the CLAT address that did not come from the TUN

	numCounts
)

// String returns the name in kebab case.
func (c Count) String() string {
	return [numCounts]string{"steered-in", "left-to-kernel", "steered-out", "foreign-source", "unroutable", "leaked-ipv4", "leaked-ipv6"}[c]
}

// Counters are packets since the start, a super-packet counting once.
type Counters [numCounts]uint64
