package siit

import "net/netip"

// Config is what a Translator is made of. The zero value of every field but
// Mapping means the default.
type Config struct {
	Mapping Mapping

	MTU6          int // bytes, of the IPv6 side's next hop; default 1500, at least 1280
	MTU4          int // bytes, of the IPv4 side's next hop; default MTU6-20
	LowestIPv6MTU int // DF=0 packets are fragmented to this (RFC 7915 section 4); default 1280

	// ICMPSource4 and ICMPSource6 are the addresses in whose name the
	// translator sends its own ICMP errors. Defaults: 192.0.0.2, and the CLAT
	// IPv6 address; without a CLAT pair an ICMPv6 error comes from the
	// destination of the packet it is about.
	ICMPSource4 netip.Addr
	ICMPSource6 netip.Addr

	// LocalIPv4 are IPv4 networks on this side, such as the host's own: a packet
	// is dropped if its source stands for an address in one of them, behind PREF64
	// or by EAM, as it would seem to come from there.
	LocalIPv4 []netip.Prefix
	// RoutedIPv4 are IPv4 networks behind a router on this side. As for LocalIPv4,
	// but only behind PREF64, and ICMP errors are translated: a router behind PREF64 may have an address in
	// the same private network, and path MTU discovery needs what it says.
	RoutedIPv4 []netip.Prefix

	// DenyIPv4 are IPv4 networks that nobody reaches through PREF64. The sender is
	// told that it is prohibited. A host in Mapping.Hosts or Mapping.EAM is
	// reached in spite of it.
	DenyIPv4 []netip.Prefix
	// PoolIPv4 is the network that the addresses of Mapping.Hosts are given from.
	// Those that no host has are unreachable from both sides.
	PoolIPv4 netip.Prefix

	// ZeroTrafficClass and ZeroTOS write 0 to that field of translated packets,
	// instead of the other one's value (RFC 7915 sections 4.1 and 5.1). What ICMP
	// errors quote keeps it.
	ZeroTrafficClass    bool
	ZeroTOS             bool
	DropUDPZeroChecksum bool // drop IPv4 UDP without checksum instead of computing one (RFC 7915 section 4.5)
	DropWKPPrivate      bool // drop non-global IPv4 addresses towards 64:ff9b::/96 (RFC 6052 section 3.1)
	NodeID              bool // append the Node Identification Object to errors from sources that cannot be mapped
}

// Mapping says which IPv4 address is which IPv6 address. A longest-prefix
// match in EAM (and CLAT) comes first, PREF64 covers the rest.
type Mapping struct {
	PREF64 netip.Prefix // RFC 6052, length 32, 40, 48, 56, 64 or 96

	// CLAT, if set, makes the translator the CLAT of a host: it is the
	// mapping entry IPv4/32 to IPv6/128, and only packets from and to
	// addresses of CLAT and EAM are translated. Without it every address may
	// be on either side, as in a router.
	CLAT Pair

	EAM []EAM
	// Networks are exceptions from PREF64, of a CLAT only. The longest network wins.
	// Their prefixes are equal or do not overlap.
	Networks []Network
	Hosts    Hosts   // of a gateway: one IPv4 address for each IPv6 host; may be nil
	Hairpin  Hairpin // for routers; a host's CLAT does not hairpin
}

// Hosts is a gateway's table of one-to-one mappings, which may change while
// packets are translated. Where there is one, a packet is translated only
// between a host in Hosts (or EAM) and PREF64, or between two hosts by their IPv4
// addresses. The methods are called for every packet by many goroutines.
type Hosts interface {
	// To4 returns the IPv4 address of the host with an IPv6 address. Addresses
	// are numbers in host byte order, of IPv6 the upper and the lower half.
	To4(hi, lo uint64) (ipv4 uint32, ok bool)
	// To6 returns the IPv6 address of the host with an IPv4 address.
	To6(ipv4 uint32) (hi, lo uint64, ok bool)
}

// EAM is one explicit address mapping (RFC 7757 section 3). The suffix of the
// IPv4 prefix must not be longer than that of the IPv6 prefix.
type EAM struct {
	IPv4, IPv6 netip.Prefix
}

// Hairpin selects how two hosts behind the same EAM table reach each other
// (RFC 7757 section 4).
type Hairpin uint8

const (
	// HairpinSimple never maps the source of an IPv4 packet by EAM, so the
	// IPv4 network may send a translated packet straight back. The default.
	HairpinSimple Hairpin = iota
	// HairpinOff maps every address by EAM.
	HairpinOff
)
