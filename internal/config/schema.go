package config

import "math"

// key is one key of a table: set checks its value and puts it into c.config.
// A table is a key too, whose set goes through the keys within.
type key struct {
	name string
	set  func(c *checker, name string, n *node)
}

// schema is every key there is, in the order of the manual.
var schema = []key{
	{"clat", within(clatKeys)},
	{"discovery", within(discoveryKeys)},
	{"translation", within(translationKeys)},
	{"control", within(controlKeys)},
}

var clatKeys = []key{
	{"enable", func(c *checker, name string, n *node) {
		text(c, name, n, &c.config.CLAT.Enable, oneOf[Enable](enableWords))
	}},
	{"uplinks", func(c *checker, name string, n *node) { list(c, name, n, &c.config.CLAT.Uplinks, interfaceName) }},
	{"pref64", func(c *checker, name string, n *node) { list(c, name, n, &c.config.CLAT.PREF64, translationPrefix) }},
	{"ipv6", func(c *checker, name string, n *node) { text(c, name, n, &c.config.CLAT.IPv6, clatIPv6) }},
	{"ipv4", func(c *checker, name string, n *node) {
		c.config.CLAT.IPv4Fixed = text(c, name, n, &c.config.CLAT.IPv4, clatIPv4)
	}},
	{"engine", func(c *checker, name string, n *node) {
		text(c, name, n, &c.config.CLAT.Engine, oneOf[Engine](engineWords))
	}},
	{"tun", func(c *checker, name string, n *node) { text(c, name, n, &c.config.CLAT.TUN, interfaceName) }},
	{"mtu", func(c *checker, name string, n *node) {
		integer(c, name, n, &c.config.CLAT.MTU, 1260, 65515, "1260 to 65515 (the IPv6 side is 20 more, and IPv6 needs 1280)")
	}},
	{"metric", func(c *checker, name string, n *node) {
		integer(c, name, n, &c.config.CLAT.Metric, 0, math.MaxUint32, "0 to 4294967295")
	}},
	{"queues", func(c *checker, name string, n *node) {
		integer(c, name, n, &c.config.CLAT.Queues, 0, 16, "0 to 16 (0, one for each CPU and at most 4, suits nearly everybody)")
	}},
}

var discoveryKeys = []key{
	{"sources", func(c *checker, name string, n *node) {
		list(c, name, n, &c.config.Discovery.Sources, oneOf[Source](sourceWords))
	}},
	{"dns-servers", func(c *checker, name string, n *node) { list(c, name, n, &c.config.Discovery.DNSServers, dnsServer) }},
	{"plat-probe", func(c *checker, name string, n *node) { text(c, name, n, &c.config.Discovery.PLATProbe, platProbe) }},
}

var translationKeys = []key{
	{"lowest-ipv6-mtu", func(c *checker, name string, n *node) {
		integer(c, name, n, &c.config.Translation.LowestIPv6MTU, 1280, 65535, "1280 to 65535")
	}},
	{"udp-zero-checksum", func(c *checker, name string, n *node) {
		text(c, name, n, &c.config.Translation.UDPZeroChecksum, oneOf[ZeroChecksum](zeroChecksumWords))
	}},
	{"wkp-private", func(c *checker, name string, n *node) {
		text(c, name, n, &c.config.Translation.WKPPrivate, oneOf[Private](privateWords))
	}},
	{"icmp-errors-per-second", func(c *checker, name string, n *node) {
		integer(c, name, n, &c.config.Translation.ICMPErrorsPerSecond, 0, math.MaxInt32, "0 or more (0: none are sent)")
	}},
	{"icmp-source", func(c *checker, name string, n *node) { text(c, name, n, &c.config.Translation.ICMPSource, icmpSource) }},
	{"node-id", func(c *checker, name string, n *node) { boolean(c, name, n, &c.config.Translation.NodeID) }},
	{"eam", (*checker).mappings},
}

// eamKeys are the keys of one [[translation.eam]].
var eamKeys = []key{
	{"ipv4", func(c *checker, name string, n *node) { text(c, name, n, &c.entry.IPv4, eamIPv4) }},
	{"ipv6", func(c *checker, name string, n *node) { text(c, name, n, &c.entry.IPv6, eamIPv6) }},
}

var controlKeys = []key{
	{"socket", func(c *checker, name string, n *node) { text(c, name, n, &c.config.Control.Socket, socketPath) }},
	{"metrics", func(c *checker, name string, n *node) { text(c, name, n, &c.config.Control.Metrics, listenAddress) }},
}

// within makes the set of a table.
func within(keys []key) func(c *checker, name string, n *node) {
	return func(c *checker, name string, n *node) {
		if c.wants(name, n, tableKind, "a table, ["+name+"]") {
			c.table(name, n, keys)
		}
	}
}
