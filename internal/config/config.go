package config

import "net/netip"

// DefaultPath is the file that is read when none is named. It may be absent.
const DefaultPath = "/etc/tnat64/tnat64d.toml"

// Config is a validated configuration. Its zero value is not valid; start
// from [Default].
type Config struct {
	CLAT        CLAT
	Discovery   Discovery
	Translation Translation
	Control     Control
}

// CLAT is the table [clat]: the interface, its addresses and its route.
type CLAT struct {
	// Enable says when there is a CLAT at all (key enable).
	Enable Enable
	// Uplinks are the interfaces that get a CLAT. Empty: every interface with
	// an IPv6 default route, a PREF64 and no native IPv4 default route.
	Uplinks []string
	// PREF64 are static prefixes, masked, in order of preference. Empty: the
	// prefix is discovered.
	PREF64 []netip.Prefix
	// IPv6 is the fixed CLAT IPv6 address. Invalid (the zero Addr): one is
	// formed in the uplink's prefix, or shared with the host if none can be.
	IPv6 netip.Addr
	// SharedIPv6 says that the CLAT shares an address of the host in any case.
	SharedIPv6 bool
	// IPv4 is the CLAT IPv4 address.
	IPv4 netip.Addr
	// IPv4Fixed says that the file names IPv4. Without it IPv4 is the first
	// address of 192.0.0.0/29 to try, and the next free one will do as well.
	IPv4Fixed bool
	// Engine says where packets are translated.
	Engine Engine
	// TUN is the name of the (first) TUN interface.
	TUN string
	// MTU is the IPv4 MTU in bytes; 0: 20 less than the uplink's. The MTU of
	// the IPv6 side is always 20 more.
	MTU int
	// Metric of the IPv4 default route.
	Metric uint32
	// Queues is the number of TUN queues; 0: see [CLAT.QueueCount].
	Queues int
	// Routes are the prefixes of networks that are not behind the uplink's PREF64,
	// masked. The longest network wins.
	Routes []Route
}

// Route is one [[clat.route]].
type Route struct {
	Network netip.Prefix // IPv4
	PREF64  netip.Prefix // the zero Prefix: "none", the network is unreachable
}

// QueueCount is the number of TUN queues to open on a machine with cpus
// processors: what the file says, or one for each of them up to four, which is
// where one flow per queue stops to gain.
func (c CLAT) QueueCount(cpus int) int {
	if c.Queues > 0 {
		return c.Queues
	}
	return max(1, min(cpus, 4))
}

// Discovery is the table [discovery]: how PREF64 is found.
type Discovery struct {
	// Sources are asked in this order; each occurs once.
	Sources []Source
	// DNSServers are asked for ipv4only.arpa (RFC 7050). A link-local one may
	// have a zone. Empty: the resolvers of the uplink.
	DNSServers []netip.Addr
	// PLATProbe is pinged through a PLAT whose state is unknown or that seems not
	// to answer. Invalid (the zero Addr): only hosts that programs have used are
	// probed.
	PLATProbe netip.Addr
}

// Translation is the table [translation]: the choices RFC 7915 leaves open.
type Translation struct {
	// LowestIPv6MTU is the size in bytes to which IPv4 packets without DF are
	// fragmented (RFC 7915 section 4).
	LowestIPv6MTU int
	// TrafficClass is that of the IPv6 packets, and TOS that of the IPv4 packets
	// (RFC 7915 sections 4.1 and 5.1).
	TrafficClass, TOS ClassOfService
	// UDPZeroChecksum selects how IPv4 UDP packets without checksum are handled
	// (RFC 7915 section 4.5).
	UDPZeroChecksum ZeroChecksum
	// WKPPrivate selects how packets to and from non-global IPv4 addresses are
	// handled with 64:ff9b::/96 (RFC 6052 section 3.1).
	WKPPrivate Private
	// ICMPErrorsPerSecond limits the translator's own ICMP errors; 0: none
	// are sent.
	ICMPErrorsPerSecond int
	// ICMPSource is the source of the translator's own ICMPv4 errors. Where it
	// is also the CLAT IPv4 address, [Config.Translator] takes another one.
	ICMPSource netip.Addr
	// NodeID appends the Node Identification Object to ICMP errors from
	// sources that stand for no IPv4 address.
	NodeID bool
	// EAM are explicit address mappings (RFC 7757) in addition to the CLAT's
	// own, masked.
	EAM []Mapping
}

// Mapping is one entry of [[translation.eam]].
type Mapping struct {
	IPv4, IPv6 netip.Prefix
}

// Control is the table [control]: how to talk to the daemon.
type Control struct {
	// Socket is the absolute path of the control socket.
	Socket string
	// Metrics is host:port of the Prometheus listener; empty: off.
	Metrics string
}

// Default is the configuration of an empty file.
func Default() Config {
	return Config{
		CLAT: CLAT{
			IPv4:   netip.AddrFrom4([4]byte{192, 0, 0, 1}),
			TUN:    "clat0",
			Metric: 2048,
		},
		Discovery: Discovery{
			Sources: []Source{RA, DNS},
		},
		Translation: Translation{
			LowestIPv6MTU:       1280,
			ICMPErrorsPerSecond: 100,
			ICMPSource:          netip.AddrFrom4([4]byte{192, 0, 0, 2}),
			NodeID:              true,
		},
		Control: Control{
			Socket: "/run/tnat64/tnat64d.sock",
		},
	}
}
