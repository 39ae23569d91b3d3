package steer

// Drop is the reason why a program dropped a packet.
type Drop uint8

const (
	ForeignSource    Drop = iota // IPv6 from user space with a source that is not ours
	UntranslatedIPv4             // IPv4 from a guarded address on its way out of a link
	BoundSource                  // IPv6 from a guarded address on its way out of a link, not from the translator
	StrayIPv4                    // IPv4 to a guarded address that came by a link
	UnicastToMany                // IPv6 to one of our addresses in a broadcast or multicast frame: see [Steering.SetDropUnicastToMany]
	NoMemory                     // the kernel had none to change the link header
	RejectedRoute                // IPv6 from user space to a destination that a route rejects
	NoPort                       // IPv6 from a shared address towards a port where none is free on the wire
	FragmentBacklog              // a fragment for user space while too many wait, or of a datagram of which one was dropped so

	// NumDrops is the number of reasons, for arrays of counters.
	NumDrops
)

// String returns the kebab-case name.
func (d Drop) String() string { return drops[d].name }

// Explanation returns one sentence for people.
func (d Drop) Explanation() string { return drops[d].explanation }

var drops = [NumDrops]struct{ name, explanation string }{
	ForeignSource:    {"foreign-source", "The translator sent IPv6 from an address that is not the CLAT's."},
	UntranslatedIPv4: {"untranslated-ipv4", "IPv4 from the CLAT's address was about to leave the host untranslated."},
	BoundSource:      {"bound-source", "A program or the kernel sent IPv6 from the CLAT's address; only the translator sends from there."},
	StrayIPv4:        {"stray-ipv4", "IPv4 to the CLAT's address came from the link and not from the translator."},
	UnicastToMany:    {"unicast-to-many", "IPv6 to the CLAT's address came in a broadcast or multicast frame, and drop_unicast_in_l2_multicast is set."},
	NoMemory:         {"no-memory", "The kernel had no memory to change the packet."},
	RejectedRoute:    {"rejected-route", "The translator sent IPv6 to a destination that a route of the host rejects, which it did not know yet."},
	NoPort:           {"no-port", "The CLAT and the host, which share an IPv6 address, use the same ports towards a destination, and no other port was free."},
	FragmentBacklog:  {"fragment-backlog", "Fragments came faster than they could be translated; whole datagrams were dropped."},
}
