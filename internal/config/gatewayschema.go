package config

import (
	"fmt"
	"math"
	"net/netip"
)

// gatewayReading is what is read from the gateway's file.
type gatewayReading struct {
	checker
	conf Gateway

	// The entries of conf's lists of tables, as they stand in the file.
	maps, forwards, zones []*node
}

// gatewaySchema returns every key of the gateway's file, in the order of the
// manual.
func gatewaySchema(r *gatewayReading) []key {
	c := &r.conf
	return []key{
		table("nat64", nat64Keys(r)),
		table("dns64", dns64Keys(r)),
		table("advertise", advertiseKeys(&c.Advertise)),
		table("log", []key{boolean("sessions", &c.Log.Sessions), boolean("queries", &c.Log.Queries)}),
		table("control", controlKeys(&c.Control, gatewayMetrics)),
	}
}

func nat64Keys(r *gatewayReading) []key {
	n := &r.conf.NAT64
	return []key{
		text("prefix", &n.Prefix, translationPrefix),
		list("inside", &n.Inside, interfaceName),
		list("outside", &n.Outside, interfaceName),
		text("pool", &n.Pool, poolPrefix),
		list("clients", &n.Clients, clientPrefix),
		text("nat44", &n.NAT44, oneOf[NAT44](nat44Words)),
		list("addresses", &n.Addresses, addressRange),
		integer("ports-per-client", &n.PortsPerClient, 0, 64512, "0 (shared) to 64512, which are all ports from 1024"),
		integer("connections-per-client", &n.ConnectionsPerClient, 0, math.MaxInt32, "0 or more (0: no limit)"),
		integer("connections-per-64", &n.ConnectionsPer64, 0, math.MaxInt32, "0 or more (0: no limit)"),
		integer("maps-per-64", &n.MapsPer64, 1, 1<<24, "1 to 16777216"),
		text("map-idle", &n.MapIdle, idleTime),
		list("deny", &n.Deny, ipv4Network),
		text("engine", &n.Engine, oneOf[Engine](engineWords)),
		text("tun", &n.TUN, interfaceName),
		entries("map", &n.Maps, &r.maps, staticMapKeys, nil),
		entries("forward", &n.Forwards, &r.forwards, forwardKeys, nil),
	}
}

func staticMapKeys(m *StaticMap) []key {
	return []key{text("ipv4", &m.IPv4, mapIPv4), text("ipv6", &m.IPv6, insideHost)}
}

func forwardKeys(f *Forward) []key {
	outside := func(c *checker, name string, n *node) {
		var v outsidePort
		set(c, name, n, &v, forwardOutside)
		f.Outside, f.Protocol = v.addr, v.protocol
	}
	return []key{{name: "outside", set: outside}, text("inside", &f.Inside, forwardInside)}
}

func dns64Keys(r *gatewayReading) []key {
	d := &r.conf.DNS64
	return []key{
		list("listen", &d.Listen, dnsListen),
		list("upstream", &d.Upstream, dnsUpstream),
		list("prefixes", &d.Prefixes, translationPrefix),
		list("exclude", &d.Exclude, excludedPrefix),
		integer("queries-per-second", &d.QueriesPerSecond, 0, 1_000_000, "0 to 1000000 for each /64 (0: no limit)"),
		integer("cache-entries", &d.CacheEntries, 0, 1_000_000, "0 to 1000000 (0: no cache)"),
		entries("zone", &d.Zones, &r.zones, zoneKeys, nil),
	}
}

func zoneKeys(z *Zone) []key {
	return []key{text("name", &z.Name, zoneName), text("hosts", &z.Hosts, filePath)}
}

func advertiseKeys(a *Advertise) []key {
	return []key{
		list("interfaces", &a.Interfaces, interfaceName),
		text("prefix", &a.Prefix, autoconfPrefix),
		list("rdnss", &a.RDNSS, dnsServer),
		text("source", &a.Source, linkLocal),
		integer("mtu", &a.MTU, 1280, 65535, "1280 to 65535"),
		text("lifetime", &a.Lifetime, routerLifetime),
	}
}

// outsidePort is what forward.outside says.
type outsidePort struct {
	addr     netip.AddrPort
	protocol Protocol
}

// String returns it as the file has it.
func (o outsidePort) String() string { return fmt.Sprintf("%v/%v", o.addr, o.protocol) }
