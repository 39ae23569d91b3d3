package plat

import (
	"net/netip"
	"time"

	"tnat64d/datapath"
	"tnat64d/plat/nat44"
	"tnat64d/siit"
)

// Config says what a NAT64 does.
type Config struct {
	Prefix          netip.Prefix // RFC 6052
	Inside, Outside []string     // interfaces; no outside: that of the IPv4 default route
	Pool            netip.Prefix // IPv4: one address for each host
	Clients         func(netip.Addr) bool
	NamedClients    bool           // Clients does not depend on addresses of links
	Deny            []netip.Prefix // IPv4
	MaxPer64        int
	Idle            time.Duration // of dynamic maps
	Static          []siit.Pair
	Forwards        []Forward
	TUN             string
	Engine          datapath.Engine

	NAT44                nat44.Mode
	Addresses            []nat44.Range
	PortsPerClient       int
	ConnectionsPerClient int
	ConnectionsPer64     int

	LogSessions         bool   // every connection of a client
	ICMPErrorsPerSecond int    // to each side
	StateFile           string // of the dynamic maps; empty: they are forgotten
}

// Forward leads a port of an outside address to a host inside.
type Forward struct {
	Protocol uint8          // TCP or UDP
	Outside  netip.AddrPort // IPv4
	Inside   netip.AddrPort // IPv6
}

// Own returns the address of the pool that is the gateway's: the source of its
// ICMPv4 errors. Nothing answers there.
func (c Config) Own() netip.Addr { return c.Pool.Masked().Addr().Next() }

// nat44 returns the configuration of the NAT44 behind the translator.
func (c Config) nat44(outside []string, table *Table) (nat44.Config, error) {
	n := nat44.Config{
		TUN: c.TUN, Inside: c.Inside, Outside: outside, Prefix: c.Prefix.Masked(), Pool: c.Pool, Mode: c.NAT44,
		Addresses: c.Addresses, PortsPerClient: c.PortsPerClient, ConnectionsPerClient: c.ConnectionsPerClient,
		ConnectionsPer64: c.ConnectionsPer64,
	}
	for _, m := range c.Static {
		n.Static = append(n.Static, m.IPv4)
	}
	for _, f := range c.Forwards {
		a, err := table.Pin(f.Inside.Addr())
		if err != nil {
			return n, err
		}
		n.Forwards = append(n.Forwards, nat44.Forward{Protocol: f.Protocol, Outside: f.Outside, Inside: netip.AddrPortFrom(a, f.Inside.Port())})
	}
	return n, nil
}

// table makes the table of maps.
func (c Config) table() (*Table, error) {
	limit := nat44.Config{Mode: c.NAT44, Addresses: c.Addresses, PortsPerClient: c.PortsPerClient}.Clients()
	return NewTable(TableConfig{Pool: c.Pool.Masked(), Static: c.Static, MaxPer64: c.MaxPer64, Idle: c.Idle, Clients: c.Clients, Named: c.NamedClients, Limit: limit, PREF64: c.Prefix.Masked()})
}
