package config

import (
	"fmt"
	"net/netip"
	"time"

	"tnat64d/siit"
)

// DefaultGatewayPath is the file of tnat64-gateway where none is named.
const DefaultGatewayPath = "/etc/tnat64/gateway.toml"

// Gateway is the configuration of tnat64-gateway. Its zero value is not valid;
// start from [DefaultGateway].
type Gateway struct {
	NAT64     NAT64
	DNS64     DNS64
	Advertise Advertise
	Log       GatewayLog
	Control   Control
}

// NAT64 is the table [nat64]: prefix, interfaces, address pool and limits.
type NAT64 struct {
	// Prefix is the translation prefix, masked (RFC 6052 section 2.2).
	Prefix netip.Prefix
	// Inside are the interfaces of the IPv6-only hosts. Where the file leaves
	// them out they are those of [Advertise.Interfaces]. Empty only where the
	// file names Clients.
	Inside []string
	// Outside are the interfaces towards IPv4. Empty: those of the IPv4 default
	// route, and those by which the kernel sends packets to global addresses where
	// rules or other routes precede it.
	Outside []string
	// Pool has one IPv4 address for each IPv6 host, masked.
	Pool netip.Prefix
	// Clients are the IPv6 prefixes, masked, whose hosts may use NAT64 and
	// DNS64. Empty: the prefixes of Inside.
	Clients []netip.Prefix
	// NAT44 selects how the pool's addresses are translated towards IPv4.
	NAT44 NAT44
	// Addresses are the outside addresses of NAT44Pool. They do not overlap.
	Addresses []AddrRange
	// PortsPerClient is the size of the port range that each client gets with
	// NAT44Pool (RFC 7422); 0: clients share the ports.
	PortsPerClient int
	// ConnectionsPerClient limits the connections of one client; 0: no limit.
	ConnectionsPerClient int
	// ConnectionsPer64 limits those of all hosts of a /64 together; 0: no limit.
	ConnectionsPer64 int
	// MapsPer64 limits the dynamic maps for the hosts of one /64.
	MapsPer64 int
	// MapIdle is how long a dynamic map may be idle before its address returns to
	// the pool.
	MapIdle time.Duration
	// Deny are IPv4 networks, masked, that nobody reaches through the gateway.
	Deny []netip.Prefix
	// Engine translates simple packets; user space translates the others.
	Engine Engine
	// TUN is the name of the TUN interface.
	TUN string
	// Maps are static.
	Maps []StaticMap
	// Forwards are ports of outside addresses that lead inside.
	Forwards []Forward
}

// Own returns the gateway's own address of the pool, which no host gets: the
// source of its ICMPv4 errors.
func (n NAT64) Own() netip.Addr { return n.Pool.Addr().Next() }

// AddrRange is a range of IPv4 addresses, both ends included.
type AddrRange struct{ First, Last netip.Addr }

// String returns the range as FIRST-LAST, or as the one address that it has.
func (r AddrRange) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + "-" + r.Last.String()
}

// StaticMap is one [[nat64.map]]: an address of the pool that always belongs
// to the same host.
type StaticMap struct{ IPv4, IPv6 netip.Addr }

// Forward is one [[nat64.forward]].
type Forward struct {
	Protocol Protocol
	Outside  netip.AddrPort // IPv4
	Inside   netip.AddrPort // IPv6
}

// Protocol is an IP protocol number.
type Protocol uint8

// The protocols that have ports to forward.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// String returns the word of the file.
func (p Protocol) String() string {
	if p == TCP {
		return "tcp"
	}
	return "udp"
}

// NAT44 selects how the pool's addresses are translated towards IPv4.
type NAT44 uint8

const (
	// NAT44Masquerade: they are translated to the address of the outside
	// interface.
	NAT44Masquerade NAT44 = iota
	// NAT44Pool: they are translated to [NAT64.Addresses].
	NAT44Pool
	// NAT44None: they are not translated; the pool is routed.
	NAT44None
)

var nat44Words = []string{"masquerade", "pool", "none"}

// String returns the word of the file.
func (n NAT44) String() string { return nat44Words[n] }

// DNS64 is the table [dns64].
type DNS64 struct {
	// Listen are the addresses to answer at. Empty: there is no DNS64.
	Listen []netip.AddrPort
	// Upstream are the resolvers to ask, in this order. Empty: those of
	// resolv.conf.
	Upstream []netip.AddrPort
	// Prefixes are what AAAA records are made with, in this order, masked; at
	// most 8. Empty: [NAT64.Prefix].
	Prefixes []netip.Prefix
	// Exclude are networks, masked; AAAA records in them do not count (RFC 6147
	// section 5.1.4).
	Exclude []netip.Prefix
	// QueriesPerSecond limits the queries from one /64; 0: no limit.
	QueriesPerSecond int
	// CacheEntries bounds the cache; 0: there is none.
	CacheEntries int
	// Zones are answered from hosts files.
	Zones []Zone
}

// Zone is one [[dns64.zone]].
type Zone struct {
	Name  string // in lower case, without the final dot
	Hosts string // absolute path
}

// Advertise is the table [advertise].
type Advertise struct {
	// Interfaces are where router advertisements are sent. Empty: there are
	// none.
	Interfaces []string
	// Prefix is announced for address configuration, a /64. Invalid (the zero
	// Prefix): the /64s of each interface's own addresses.
	Prefix netip.Prefix
	// RDNSS are announced as resolvers. Empty: the addresses of [DNS64.Listen].
	RDNSS []netip.Addr
	// Source is the link-local address that advertisements come from: they are sent
	// while an interface has it. Invalid (the zero Addr): any of the interface.
	Source netip.Addr
	// MTU is announced in bytes; 0: the interface's.
	MTU int
	// Lifetime is that of the default route, PREF64 and the resolvers.
	Lifetime time.Duration
}

// GatewayLog is the table [log].
type GatewayLog struct {
	Sessions bool // conntrack events
	Queries  bool // DNS64
}

// DefaultGateway is the configuration of an empty file. A gateway without
// interfaces does nothing, so it is not valid as it is.
func DefaultGateway() Gateway {
	return Gateway{
		NAT64: NAT64{
			Prefix:               siit.WellKnownPrefix(),
			Pool:                 netip.MustParsePrefix("100.64.0.0/16"),
			PortsPerClient:       2016,
			ConnectionsPerClient: 4000,
			ConnectionsPer64:     65536,
			MapsPer64:            256,
			MapIdle:              2 * time.Hour,
			TUN:                  "nat64",
		},
		DNS64: DNS64{
			Exclude:          []netip.Prefix{mappedIPv4},
			QueriesPerSecond: 200,
			CacheEntries:     10000,
		},
		Advertise: Advertise{Lifetime: 30 * time.Minute},
		Control:   Control{Socket: "/run/tnat64-gateway/gateway.sock"},
	}
}

// GatewayFile is a gateway's configuration file that has been read and found
// valid. It still knows its places, so that what only the host shows (an
// interface that is not there) is reported with line and column too.
type GatewayFile struct {
	Gateway  Gateway
	Warnings []Problem // valid, but perhaps not what was meant

	checker *checker
}

// Refuse reports a value that does not fit the host: of the list key the entry
// i, of another key (i < 0) its only value. For a default that the file does
// not have the problem is the whole file's.
func (f *GatewayFile) Refuse(key string, i int, what, allowed string) {
	f.at(&f.checker.problems, key, i, what, allowed)
}

// Warn adds to Warnings what does not fit the host but may be meant. Key and i
// are those of Refuse.
func (f *GatewayFile) Warn(key string, i int, what string) {
	f.at(&f.Warnings, key, i, what, "")
}

func (f *GatewayFile) at(to *[]Problem, key string, i int, what, allowed string) {
	n := f.checker.given[key]
	if n != nil && i >= 0 && i < len(n.items) {
		n = n.items[i]
	}
	if n == nil {
		*to = append(*to, Problem{File: f.checker.file, Key: key, What: what, Allowed: allowed})
		return
	}
	f.checker.add(to, key, n.at, what, allowed)
}

// Has reports whether the file has a key.
func (f *GatewayFile) Has(key string) bool { return f.checker.given[key] != nil }

// Err returns what Refuse has reported as an *[Error], or nil.
func (f *GatewayFile) Err() error { return f.checker.err() }

// LoadGateway reads a configuration file of tnat64-gateway, which must exist: a
// gateway has to know its interfaces. A mistake in the file is an *[Error].
func LoadGateway(path string) (*GatewayFile, error) {
	data, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return ParseGateway(path, data)
}

// ParseGateway reads the content of a configuration file of tnat64-gateway;
// name is for messages. The error is that of [LoadGateway].
func ParseGateway(name string, data []byte) (*GatewayFile, error) {
	r := gatewayReading{conf: DefaultGateway()}
	err := r.read(name, data, gatewaySchema(&r))
	if err == nil {
		r.together()
		err = r.err()
	}
	if err != nil {
		return nil, err
	}
	return &GatewayFile{Gateway: r.conf, Warnings: r.warnings, checker: &r.checker}, nil
}
