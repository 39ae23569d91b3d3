package config

import (
	"fmt"
	"math"
	"net/netip"
)

// gatewayReading is what a checker collects of a gateway's file.
type gatewayReading struct {
	conf Gateway

	// The entry of a list of tables that is being read.
	entryMap     StaticMap
	entryForward Forward
	entryZone    Zone

	// The entries of conf's lists of tables, as they stand in the file.
	maps, forwards, zones []*node
}

// gatewaySchema is every key of the gateway's file, in the order of the manual.
var gatewaySchema = []key{
	{"nat64", within(nat64Keys)},
	{"dns64", within(dns64Keys)},
	{"advertise", within(advertiseKeys)},
	{"log", within(gatewayLogKeys)},
	{"control", within(gatewayControlKeys)},
}

var nat64Keys = []key{
	{"prefix", func(c *checker, name string, n *node) {
		text(c, name, n, &c.gateway.conf.NAT64.Prefix, translationPrefix)
	}},
	{"inside", func(c *checker, name string, n *node) { list(c, name, n, &c.gateway.conf.NAT64.Inside, interfaceName) }},
	{"outside", func(c *checker, name string, n *node) { list(c, name, n, &c.gateway.conf.NAT64.Outside, interfaceName) }},
	{"pool", func(c *checker, name string, n *node) { text(c, name, n, &c.gateway.conf.NAT64.Pool, poolPrefix) }},
	{"clients", func(c *checker, name string, n *node) { list(c, name, n, &c.gateway.conf.NAT64.Clients, clientPrefix) }},
	{"nat44", func(c *checker, name string, n *node) {
		text(c, name, n, &c.gateway.conf.NAT64.NAT44, oneOf[NAT44](nat44Words))
	}},
	{"addresses", func(c *checker, name string, n *node) {
		list(c, name, n, &c.gateway.conf.NAT64.Addresses, addressRange)
	}},
	{"ports-per-client", func(c *checker, name string, n *node) {
		integer(c, name, n, &c.gateway.conf.NAT64.PortsPerClient, 0, 64512, "0 (shared) to 64512, which are all ports from 1024")
	}},
	{"connections-per-client", func(c *checker, name string, n *node) {
		integer(c, name, n, &c.gateway.conf.NAT64.ConnectionsPerClient, 0, math.MaxInt32, "0 or more (0: no limit)")
	}},
	{"maps-per-64", func(c *checker, name string, n *node) {
		integer(c, name, n, &c.gateway.conf.NAT64.MapsPer64, 1, 1<<24, "1 to 16777216")
	}},
	{"map-idle", func(c *checker, name string, n *node) {
		text(c, name, n, &c.gateway.conf.NAT64.MapIdle, idleTime)
	}},
	{"deny", func(c *checker, name string, n *node) { list(c, name, n, &c.gateway.conf.NAT64.Deny, ipv4Network) }},
	{"tun", func(c *checker, name string, n *node) { text(c, name, n, &c.gateway.conf.NAT64.TUN, interfaceName) }},
	{"map", entries(staticMapKeys,
		func(c *checker) { c.gateway.entryMap = StaticMap{} },
		func(c *checker, n *node) {
			c.gateway.conf.NAT64.Maps = append(c.gateway.conf.NAT64.Maps, c.gateway.entryMap)
			c.gateway.maps = append(c.gateway.maps, n)
		})},
	{"forward", entries(forwardKeys,
		func(c *checker) { c.gateway.entryForward = Forward{} },
		func(c *checker, n *node) {
			c.gateway.conf.NAT64.Forwards = append(c.gateway.conf.NAT64.Forwards, c.gateway.entryForward)
			c.gateway.forwards = append(c.gateway.forwards, n)
		})},
}

var staticMapKeys = []key{
	{"ipv4", func(c *checker, name string, n *node) { text(c, name, n, &c.gateway.entryMap.IPv4, mapIPv4) }},
	{"ipv6", func(c *checker, name string, n *node) { text(c, name, n, &c.gateway.entryMap.IPv6, insideHost) }},
}

var forwardKeys = []key{
	{"outside", func(c *checker, name string, n *node) {
		var v outsidePort
		text(c, name, n, &v, forwardOutside)
		c.gateway.entryForward.Outside, c.gateway.entryForward.Protocol = v.addr, v.protocol
	}},
	{"inside", func(c *checker, name string, n *node) {
		text(c, name, n, &c.gateway.entryForward.Inside, forwardInside)
	}},
}

var dns64Keys = []key{
	{"listen", func(c *checker, name string, n *node) { list(c, name, n, &c.gateway.conf.DNS64.Listen, dnsListen) }},
	{"upstream", func(c *checker, name string, n *node) { list(c, name, n, &c.gateway.conf.DNS64.Upstream, dnsUpstream) }},
	{"prefixes", func(c *checker, name string, n *node) {
		list(c, name, n, &c.gateway.conf.DNS64.Prefixes, translationPrefix)
	}},
	{"exclude", func(c *checker, name string, n *node) {
		list(c, name, n, &c.gateway.conf.DNS64.Exclude, excludedPrefix)
	}},
	{"queries-per-second", func(c *checker, name string, n *node) {
		integer(c, name, n, &c.gateway.conf.DNS64.QueriesPerSecond, 0, 1_000_000, "0 to 1000000 for each client (0: no limit)")
	}},
	{"cache-entries", func(c *checker, name string, n *node) {
		integer(c, name, n, &c.gateway.conf.DNS64.CacheEntries, 0, 1_000_000, "0 to 1000000 (0: no cache)")
	}},
	{"zone", entries(zoneKeys,
		func(c *checker) { c.gateway.entryZone = Zone{} },
		func(c *checker, n *node) {
			c.gateway.conf.DNS64.Zones = append(c.gateway.conf.DNS64.Zones, c.gateway.entryZone)
			c.gateway.zones = append(c.gateway.zones, n)
		})},
}

var zoneKeys = []key{
	{"name", func(c *checker, name string, n *node) { text(c, name, n, &c.gateway.entryZone.Name, zoneName) }},
	{"hosts", func(c *checker, name string, n *node) { text(c, name, n, &c.gateway.entryZone.Hosts, filePath) }},
}

var advertiseKeys = []key{
	{"interfaces", func(c *checker, name string, n *node) {
		list(c, name, n, &c.gateway.conf.Advertise.Interfaces, interfaceName)
	}},
	{"prefix", func(c *checker, name string, n *node) {
		text(c, name, n, &c.gateway.conf.Advertise.Prefix, autoconfPrefix)
	}},
	{"rdnss", func(c *checker, name string, n *node) { list(c, name, n, &c.gateway.conf.Advertise.RDNSS, dnsServer) }},
	{"mtu", func(c *checker, name string, n *node) {
		integer(c, name, n, &c.gateway.conf.Advertise.MTU, 1280, 65535, "1280 to 65535")
	}},
	{"lifetime", func(c *checker, name string, n *node) {
		text(c, name, n, &c.gateway.conf.Advertise.Lifetime, routerLifetime)
	}},
}

var gatewayLogKeys = []key{
	{"sessions", func(c *checker, name string, n *node) { boolean(c, name, n, &c.gateway.conf.Log.Sessions) }},
	{"queries", func(c *checker, name string, n *node) { boolean(c, name, n, &c.gateway.conf.Log.Queries) }},
}

var gatewayControlKeys = []key{
	{"socket", func(c *checker, name string, n *node) { text(c, name, n, &c.gateway.conf.Control.Socket, socketPath) }},
	{"metrics", func(c *checker, name string, n *node) {
		text(c, name, n, &c.gateway.conf.Control.Metrics, gatewayMetrics)
	}},
}

// entries makes the set of a list of tables, [[name]], each of which needs all
// of keys: begin clears the entry of c and done takes it, with its node.
func entries(keys []key, begin func(c *checker), done func(c *checker, n *node)) func(c *checker, name string, n *node) {
	all := keys[0].name
	for _, k := range keys[1:] {
		all += " and " + k.name
	}
	return func(c *checker, name string, n *node) {
		if !c.wants(name, n, listKind, "a list of tables, [["+name+"]]") {
			return
		}
		for _, item := range n.items {
			if !c.wants(name, item, tableKind, "a table with "+all) {
				continue
			}
			before := len(c.problems)
			begin(c)
			c.table(name, item, keys)
			if len(c.problems) > before {
				continue
			}
			if len(item.fields) < len(keys) {
				c.refuse(name, item, "the entry has not all of its keys", all)
				continue
			}
			done(c, item)
		}
	}
}

// outsidePort is what forward.outside says.
type outsidePort struct {
	addr     netip.AddrPort
	protocol Protocol
}

// String returns it as the file has it.
func (o outsidePort) String() string { return fmt.Sprintf("%v/%v", o.addr, o.protocol) }
