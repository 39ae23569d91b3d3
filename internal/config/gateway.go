package config

import (
	"net/netip"
	"time"
)

// DefaultGatewayPath is the file that tnat64-gateway reads when none is named.
const DefaultGatewayPath = "/etc/tnat64/gateway.toml"

// Gateway is a validated configuration of tnat64-gateway.
type Gateway struct {
	NAT64     NAT64
	DNS64     DNS64
	Advertise Advertise
	Log       GatewayLog
	Control   Control
}

// NAT44 says what becomes of the pool's addresses on the way out.
type NAT44 uint8

const (
	NAT44Masquerade NAT44 = iota // the address of the outside interface
	NAT44Pool                    // NAT64.Addresses
	NAT44None                    // the pool is routed
)

// NAT64 is the table [nat64].
type NAT64 struct {
	Prefix               netip.Prefix   // RFC 6052
	Inside, Outside      []string       // interfaces; no outside: that of the IPv4 default route
	Pool                 netip.Prefix   // IPv4
	Clients              []netip.Prefix // IPv6; empty: the prefixes of Inside
	NAT44                NAT44
	Addresses            []AddrRange // of NAT44Pool
	PortsPerClient       int         // 0: shared
	ConnectionsPerClient int         // 0: no limit
	MapsPer64            int
	MapIdle              time.Duration
	Deny                 []netip.Prefix // IPv4
	TUN                  string
	Maps                 []StaticMap
	Forwards             []Forward
}

// AddrRange is a range of IPv4 addresses, both ends included.
type AddrRange struct{ First, Last netip.Addr }

// StaticMap is one entry of [[nat64.map]].
type StaticMap struct{ IPv4, IPv6 netip.Addr }

// Forward is one entry of [[nat64.forward]]: a port of an outside address that
// leads to a host inside.
type Forward struct {
	Protocol        string         // "tcp" or "udp"
	Outside, Inside netip.AddrPort // IPv4, IPv6
}

// DNS64 is the table [dns64].
type DNS64 struct {
	Listen, Upstream []netip.AddrPort // no Listen: no DNS64; no Upstream: resolv.conf
	Exclude          []netip.Prefix
	Zones            []Zone
}

// Zone is one entry of [[dns64.zone]].
type Zone struct{ Name, Hosts string }

// Advertise is the table [advertise].
type Advertise struct {
	Interfaces []string // none: no router advertisements
	Prefix     netip.Prefix
}

// GatewayLog is the table [log].
type GatewayLog struct{ Sessions, Queries bool }
