package config

import "math"

// reading is what is read from the daemon's file.
type reading struct {
	checker
	config Config
	eam    []*node // the entries of config.Translation.EAM, as they stand in the file
	routes []*node // those of config.CLAT.Routes
}

// schema returns every key there is, in the order of the manual.
func schema(r *reading) []key {
	return []key{
		table("clat", clatKeys(&r.config.CLAT, &r.routes)),
		table("discovery", discoveryKeys(&r.config.Discovery)),
		table("translation", translationKeys(&r.config.Translation, &r.eam)),
		table("control", controlKeys(&r.config.Control, listenAddress)),
	}
}

func clatKeys(c *CLAT, routes *[]*node) []key {
	ipv4 := func(check *checker, name string, n *node) { c.IPv4Fixed = set(check, name, n, &c.IPv4, clatIPv4) }
	ipv6 := func(check *checker, name string, n *node) {
		if c.SharedIPv6 = n.kind == stringKind && n.text == sharedIPv6; !c.SharedIPv6 {
			set(check, name, n, &c.IPv6, clatIPv6)
		}
	}
	return []key{
		text("enable", &c.Enable, oneOf[Enable](enableWords)),
		list("uplinks", &c.Uplinks, interfaceName),
		list("pref64", &c.PREF64, translationPrefix),
		{name: "ipv6", set: ipv6},
		{name: "ipv4", set: ipv4},
		text("engine", &c.Engine, oneOf[Engine](engineWords)),
		text("tun", &c.TUN, interfaceName),
		integer("mtu", &c.MTU, 1260, 65515, "1260 to 65515 (the IPv6 MTU is 20 more and must be at least 1280)"),
		integer("metric", &c.Metric, 0, math.MaxUint32, "0 to 4294967295"),
		integer("queues", &c.Queues, 0, 16, "0 to 16 (0: one for each CPU, at most 4)"),
		entries("route", &c.Routes, routes, routeKeys, nil),
	}
}

func discoveryKeys(d *Discovery) []key {
	return []key{
		list("sources", &d.Sources, oneOf[Source](sourceWords)),
		list("dns-servers", &d.DNSServers, dnsServer),
		text("plat-probe", &d.PLATProbe, platProbe),
	}
}

func translationKeys(t *Translation, eam *[]*node) []key {
	return []key{
		integer("lowest-ipv6-mtu", &t.LowestIPv6MTU, 1280, 65535, "1280 to 65535"),
		text("traffic-class", &t.TrafficClass, oneOf[ClassOfService](classWords)),
		text("tos", &t.TOS, oneOf[ClassOfService](classWords)),
		text("udp-zero-checksum", &t.UDPZeroChecksum, oneOf[ZeroChecksum](zeroChecksumWords)),
		text("wkp-private", &t.WKPPrivate, oneOf[Private](privateWords)),
		integer("icmp-errors-per-second", &t.ICMPErrorsPerSecond, 0, math.MaxInt32, "0 or more (0: none are sent)"),
		text("icmp-source", &t.ICMPSource, icmpSource),
		boolean("node-id", &t.NodeID),
		entries("eam", &t.EAM, eam, eamKeys, checkMapping),
	}
}

func controlKeys(c *Control, listen format[string]) []key {
	return []key{
		text("socket", &c.Socket, socketPath),
		text("metrics", &c.Metrics, listen),
	}
}
