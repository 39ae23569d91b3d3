package siit

// Reason says why a packet was not translated: why it was dropped or answered
// with an ICMP error. `tnat64ctl translate`, counters, metrics and status all use
// the word that String returns.
type Reason uint8

const (
	// None is the reason of a packet that was translated.
	None Reason = iota

	// The packet itself is wrong.
	NotIP
	Truncated
	BadIPv4Header
	BadIPv4Checksum
	BadIPv6Header
	ExtensionChainTooLong
	FragmentThenExtension
	BadFragment
	BadOffload
	BadICMPChecksum
	UDPZeroChecksumIPv6

	// An address is not one we translate.
	SourceNotOurs
	DestinationNotOurs
	SourceIllegal
	DestinationIllegal
	SourceOutsidePREF64
	SourceLocalNetwork
	SourceRoutedNetwork
	DestinationUnmappable
	WKPPrivate
	NoPREF64

	// A gateway's rules.
	NoMap
	DestinationDenied
	NotAClient
	PoolExhausted
	TooManyMaps

	// The packet is fine but must not or cannot be translated.
	SourceRoute
	RoutingHeader
	TTLExceeded
	TooBig
	TooManyFragments
	UDPZeroChecksum
	UDPZeroChecksumFragment
	FragmentedICMP
	OverlappingFragment // found by the reassembly of ICMP messages
	IGMP
	ProtocolOfOtherFamily
	ICMPTypeUntranslatable
	ICMPParameterUntranslatable
	ICMPErrorNested
	ICMPErrorMalformed
	ICMPErrorNotOurs
	ICMPErrorMTUTooSmall

	// A route of the host keeps the packet from leaving.
	NoRoute
	ProhibitedByRoute
	BlackholeRoute

	// NumReasons is the number of reasons, for arrays of counters.
	NumReasons
)

// String returns the kebab-case name, for example "ttl-exceeded".
func (r Reason) String() string { return reasons[r].name }

// Explanation returns one sentence for people.
func (r Reason) Explanation() string { return reasons[r].explanation }

var reasons = [NumReasons]struct{ name, explanation string }{
	None: {"none", "The packet was translated."},

	NotIP:                 {"not-ip", "The packet is empty or its version is neither 4 nor 6."},
	Truncated:             {"truncated", "A length in the packet's headers reaches beyond its last byte."},
	BadIPv4Header:         {"bad-ipv4-header", "The IPv4 header's own lengths contradict each other."},
	BadIPv4Checksum:       {"bad-ipv4-checksum", "The IPv4 header checksum is wrong."},
	BadIPv6Header:         {"bad-ipv6-header", "An IPv6 extension header is truncated, or the packet is a jumbogram."},
	ExtensionChainTooLong: {"extension-chain-too-long", "The packet carries more than eight IPv6 extension headers."},
	FragmentThenExtension: {"fragment-then-extension", "A Fragment Header is followed by another extension header (RFC 7915 section 5.1.1)."},
	BadFragment:           {"bad-fragment", "The fragment reaches beyond the largest possible packet, or its length is not a multiple of 8 bytes."},
	BadOffload:            {"bad-offload", "The virtio-net header does not match its packet."},
	BadICMPChecksum:       {"bad-icmp-checksum", "The ICMP checksum is wrong; translation would replace it and hide the error."},
	UDPZeroChecksumIPv6:   {"udp-zero-checksum-ipv6", "An IPv6 UDP packet has no checksum (RFC 8200 section 8.1)."},

	SourceNotOurs:         {"source-not-ours", "The source is neither the CLAT address nor in the EAM table."},
	DestinationNotOurs:    {"destination-not-ours", "The destination is neither the CLAT address nor in the EAM table."},
	SourceIllegal:         {"source-illegal", "The source must not appear in packets (unspecified, loopback, link-local, multicast, class E, the CLAT itself)."},
	DestinationIllegal:    {"destination-illegal", "The destination is multicast, broadcast, loopback, link-local, class E or in 192.0.0.0/29."},
	SourceOutsidePREF64:   {"source-outside-pref64", "The IPv6 source is outside PREF64, so no IPv4 address represents it."},
	SourceLocalNetwork:    {"source-local-network", "The IPv6 source represents an IPv4 address in one of the host's own networks, which are not behind the PLAT."},
	SourceRoutedNetwork:   {"source-routed-network", "The IPv6 source represents an IPv4 address in a private network that the host reaches by another router, not through the PLAT."},
	DestinationUnmappable: {"destination-unmappable", "No IPv4 address represents the IPv6 destination."},
	NoPREF64:              {"no-pref64", "The configuration makes the destination's network unreachable (pref64 = \"none\" in clat.route)."},
	WKPPrivate:            {"wkp-private", "The well-known prefix 64:ff9b::/96 must not represent private IPv4 addresses (setting wkp-private)."},

	NoMap:             {"no-map", "The destination is an address of the gateway's pool without a host."},
	DestinationDenied: {"destination-denied", "The destination is an address of the gateway itself or in a network of the setting deny."},
	NotAClient:        {"not-a-client", "The source is not in the prefixes whose hosts may use the gateway (setting clients)."},
	PoolExhausted:     {"pool-exhausted", "The gateway's pool has no IPv4 address left for another host."},
	TooManyMaps:       {"too-many-maps", "The hosts of the source's /64 have reached their limit of IPv4 addresses (setting maps-per-64)."},

	SourceRoute:                 {"source-route", "The packet carries an IPv4 source route with entries left."},
	RoutingHeader:               {"routing-header", "The packet carries an IPv6 routing header with segments left."},
	TTLExceeded:                 {"ttl-exceeded", "The TTL or hop limit expired at the translator; traceroute causes this on purpose."},
	TooBig:                      {"too-big", "The packet exceeds the MTU of the next link and must not be fragmented."},
	TooManyFragments:            {"too-many-fragments", "The packet would become more fragments than the translator makes of one packet."},
	UDPZeroChecksum:             {"udp-zero-checksum", "An IPv4 UDP packet has no checksum, and the setting udp-zero-checksum is drop."},
	UDPZeroChecksumFragment:     {"udp-zero-checksum-fragment", "The first fragment of a UDP packet without checksum: the checksum that IPv6 requires cannot be computed from a part."},
	FragmentedICMP:              {"fragmented-icmp", "A fragment of an ICMP message: its checksum cannot be translated without the other fragments."},
	OverlappingFragment:         {"overlapping-fragment", "A fragment of an ICMP message overlaps or contradicts the others; all are dropped (RFC 5722)."},
	IGMP:                        {"igmp", "IGMP applies to the local IPv4 link only."},
	ProtocolOfOtherFamily:       {"protocol-of-other-family", "The protocol number means something else in the other IP version (an extension header, or the other ICMP)."},
	ICMPTypeUntranslatable:      {"icmp-type-untranslatable", "This ICMP type or code has no counterpart in the other IP version."},
	ICMPParameterUntranslatable: {"icmp-parameter-untranslatable", "The header field that the ICMP Parameter Problem points at has no counterpart in the other IP version."},
	ICMPErrorNested:             {"icmp-error-nested", "The packet is an ICMP error about an ICMP error."},
	ICMPErrorMalformed:          {"icmp-error-malformed", "The packet quoted in an ICMP error cannot be read."},
	ICMPErrorNotOurs:            {"icmp-error-not-ours", "The packet quoted in an ICMP error did not pass through this translator."},
	ICMPErrorMTUTooSmall:        {"icmp-error-mtu-too-small", "A Packet Too Big with an MTU below 1280, which every IPv6 node must ignore."},

	NoRoute:           {"no-route", "A route of the host says that the IPv6 destination is unreachable."},
	ProhibitedByRoute: {"prohibited-by-route", "A route of the host prohibits the IPv6 destination."},
	BlackholeRoute:    {"blackhole-route", "A route of the host discards packets to the IPv6 destination."},
}
