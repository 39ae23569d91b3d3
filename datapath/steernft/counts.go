package steernft

// Count identifies a counter of packets by their result. The word is the name of the
// counter in the table, which `nft list table` shows too.
type Count uint8

const (
	SteeredIn        Count = iota // from the uplink to user space
	LeftToKernel                  // neighbour discovery and MLD for one of our addresses
	SteeredOut                    // from user space towards the uplink
	ForeignSource                 // dropped: IPv6 from user space with a source that is not ours
	Unroutable                    // dropped: IPv6 from user space for which the uplink has no next hop
	UntranslatedIPv4              // dropped: IPv4 from a CLAT's address on its way out of a link
	BoundSource                   // dropped: IPv6 from a CLAT's address on its way out that did not come from the TUN
	StrayIPv4                     // dropped: IPv4 to a CLAT's address that came by a link
	UnicastToMany                 // dropped: IPv6 for one of our addresses in a broadcast or multicast frame

	numCounts
)

// String returns the name in kebab case.
func (c Count) String() string {
	return [numCounts]string{"steered-in", "left-to-kernel", "steered-out", "foreign-source", "unroutable", "untranslated-ipv4", "bound-source", "stray-ipv4", "unicast-to-many"}[c]
}

// Counters are packets since the start, a super-packet counting once.
type Counters [numCounts]uint64
