package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseGatewayEveryKey(t *testing.T) {
	f, err := ParseGateway("t.toml", []byte(`
[nat64]
prefix   = "2001:db8:64::/96"
inside   = ["lan0", "lan1"]
outside  = ["wan0"]
pool     = "10.64.0.0/16"
clients  = ["2001:db8:1::/48", "2001:db8:2::/64"]
nat44    = "pool"
addresses = ["203.0.113.1-203.0.113.4", "203.0.113.9", "198.51.100.0/30"]
ports-per-client = 504
connections-per-client = 0
connections-per-64 = 30000
maps-per-64 = 2
map-idle = "90m"
deny     = ["10.128.0.0/9", "192.168.1.1"]
tun      = "nat0"
[[nat64.map]]
ipv4 = "10.64.0.10"
ipv6 = "2001:db8:1::10"
[[nat64.forward]]
outside = "203.0.113.1:8443/tcp"
inside  = "[2001:db8:1::10]:443"
[[nat64.forward]]
outside = "203.0.113.1:8443/udp"
inside  = "[2001:db8:1::10]:443"
[dns64]
listen   = ["[2001:db8:1::1]:53", "fe80::1%lan0"]
upstream = ["[2001:db8::53]:5353", "192.0.2.53"]
prefixes = ["2001:db8:64::/96", "64:ff9b::/96"]
exclude  = ["::ffff:0:0/96", "2001:db8:bad::/48"]
queries-per-second = 0
cache-entries = 0
[[dns64.zone]]
name  = "POC.vpn."
hosts = "/etc/tnat64/poc.vpn.hosts"
[advertise]
interfaces = ["lan0"]
prefix     = "2001:db8:1::/64"
rdnss      = ["2001:db8:1::1", "fe80::1"]
source     = "fe80::64"
mtu        = 1400
lifetime   = "10m"
[log]
sessions = true
queries  = true
[control]
socket  = "/run/g.sock"
metrics = "[::1]:9647"
`))
	if err != nil {
		t.Fatal(err)
	}
	addr, prefix, port := netip.MustParseAddr, netip.MustParsePrefix, netip.MustParseAddrPort
	want := Gateway{
		NAT64: NAT64{
			Prefix: prefix("2001:db8:64::/96"), Inside: []string{"lan0", "lan1"}, Outside: []string{"wan0"},
			Pool: prefix("10.64.0.0/16"), Clients: []netip.Prefix{prefix("2001:db8:1::/48"), prefix("2001:db8:2::/64")},
			NAT44: NAT44Pool,
			Addresses: []AddrRange{
				{addr("203.0.113.1"), addr("203.0.113.4")}, {addr("203.0.113.9"), addr("203.0.113.9")}, {addr("198.51.100.0"), addr("198.51.100.3")},
			},
			PortsPerClient: 504, ConnectionsPer64: 30000, MapsPer64: 2, MapIdle: 90 * time.Minute,
			Deny: []netip.Prefix{prefix("10.128.0.0/9"), prefix("192.168.1.1/32")}, TUN: "nat0",
			Maps: []StaticMap{{addr("10.64.0.10"), addr("2001:db8:1::10")}},
			Forwards: []Forward{
				{TCP, port("203.0.113.1:8443"), port("[2001:db8:1::10]:443")},
				{UDP, port("203.0.113.1:8443"), port("[2001:db8:1::10]:443")},
			},
		},
		DNS64: DNS64{
			Listen:   []netip.AddrPort{port("[2001:db8:1::1]:53"), port("[fe80::1%lan0]:53")},
			Upstream: []netip.AddrPort{port("[2001:db8::53]:5353"), port("192.0.2.53:53")},
			Prefixes: []netip.Prefix{prefix("2001:db8:64::/96"), prefix("64:ff9b::/96")},
			Exclude:  []netip.Prefix{prefix("::ffff:0:0/96"), prefix("2001:db8:bad::/48")},
			Zones:    []Zone{{"poc.vpn", "/etc/tnat64/poc.vpn.hosts"}},
		},
		Advertise: Advertise{
			Interfaces: []string{"lan0"}, Prefix: prefix("2001:db8:1::/64"),
			RDNSS: []netip.Addr{addr("2001:db8:1::1"), addr("fe80::1")}, Source: addr("fe80::64"), MTU: 1400, Lifetime: 10 * time.Minute,
		},
		Log:     GatewayLog{Sessions: true, Queries: true},
		Control: Control{Socket: "/run/g.sock", Metrics: "[::1]:9647"},
	}
	if d := cmp.Diff(want, f.Gateway, cmpNetip); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if len(f.Warnings) > 0 {
		t.Errorf("warnings: %v", f.Warnings)
	}
	if got, want := f.Gateway.NAT64.Own(), addr("10.64.0.1"); got != want {
		t.Errorf("own address %v, want %v", got, want)
	}
}

func TestParseGatewayDefaults(t *testing.T) {
	want := DefaultGateway()
	want.NAT64.Inside = []string{"lan0"}
	for name, text := range map[string]string{
		"inside is named":               "[nat64]\ninside = [\"lan0\"]",
		"inside is where it advertises": "[advertise]\ninterfaces = [\"lan0\"]",
	} {
		t.Run(name, func(t *testing.T) {
			f, err := ParseGateway("t.toml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			f.Gateway.Advertise.Interfaces = nil
			if d := cmp.Diff(want, f.Gateway, cmpNetip); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestParseGatewayMistakes(t *testing.T) {
	const in = "[nat64]\ninside = [\"lan0\"]\n" // two lines, so that a mistake is in the third
	for _, c := range []struct{ text, want string }{
		// What is missing.
		{"", `t.toml: nat64.inside: no interface of IPv6-only hosts is named`},
		{"[nat64]\npool = \"10.0.0.0/24\"", `t.toml:1:2: nat64.inside: no interface of IPv6-only hosts is named`},
		{"[nat64]\ninside = []", `t.toml:2:10: nat64.inside: no interface`},
		// Names.
		{"[nat46]", `t.toml:1:2: unknown table "nat46"; allowed: nat64, dns64, advertise, log, control`},
		{in + "pol = \"10.0.0.0/8\"", `t.toml:3:1: unknown key "pol" in [nat64] (did you mean "pool"?)`},
		{"[clat]", `unknown table "clat"`},
		{in + "[control]\nsockets = \"/x\"", `did you mean "socket"?`},
		// [nat64]
		{in + "prefix = \"64:ff9b::/95\"", `t.toml:3:10: nat64.prefix: "64:ff9b::/95" cannot be a PREF64: its length must be 32, 40, 48, 56, 64 or 96`},
		{in + "prefix = \"64:ff9b::1/96\"", `did you mean "64:ff9b::/96"?`},
		{"[nat64]\ninside = [\"lan0\", \"lan0\"]", `t.toml:2:19: nat64.inside: "lan0" occurs twice`},
		{"[nat64]\ninside = [\"la/n\"]", `nat64.inside: "la/n" contains '/'`},
		{"[nat64]\ninside = [\"nat64\"]", `"nat64" is nat64.tun, the gateway's own interface`},
		{in + "outside = [\"nat64\"]", `t.toml:3:12: nat64.outside: "nat64" is nat64.tun`},
		{in + "pool = \"100.64.0.0/33\"", `t.toml:3:8: nat64.pool: "100.64.0.0/33" is not a prefix; allowed: an IPv4 prefix of length 8 to 30`},
		{in + "pool = \"100.64.0.0/31\"", `has no room`},
		{in + "pool = \"0.0.0.0/0\"", `is larger than a /8`},
		{in + "pool = \"100.64.0.1/16\"", `did you mean "100.64.0.0/16"?`},
		{in + "pool = \"2001:db8::/64\"", `is IPv6, not IPv4`},
		{in + "pool = \"127.1.0.0/16\"", `is a loopback address`},
		{in + "pool = \"169.254.0.0/16\"", `is a link-local address`},
		{in + "pool = \"224.0.0.0/8\"", `is a multicast address`},
		{in + "pool = \"240.0.0.0/8\"", `contains reserved addresses`},
		{in + "pool = \"192.0.0.0/16\"", `overlaps 192.0.0.0/24`},
		{in + "pool = 5", `t.toml:3:8: nat64.pool: "5" is an integer, not a string`},
		{in + "clients = [\"10.0.0.0/8\"]", `t.toml:3:12: nat64.clients: "10.0.0.0/8" is IPv4, not IPv6`},
		{in + "clients = [\"fe80::/64\"]", `is a link-local address`},
		{in + "clients = [\"2001:db8::1/64\"]", `has bits beyond its length (did you mean "2001:db8::/64"?)`},
		{in + "clients = [\"64:ff9b::/96\"]", `t.toml:3:12: nat64.clients: "64:ff9b::/96" lies in "64:ff9b::/96", nat64.prefix`},
		{in + "nat44 = \"masq\"", `t.toml:3:9: nat64.nat44: "masq" is not an allowed value; allowed: masquerade, pool, none`},
		{in + "nat44 = \"pool\"", `t.toml:3:9: nat64.addresses: nat64.nat44 is "pool", but nat64.addresses is empty`},
		{in + "nat44 = \"pool\"\naddresses = [\"203.0.113.4-203.0.113.1\"]", `t.toml:4:14: nat64.addresses: "203.0.113.4-203.0.113.1" ends before it starts`},
		{in + "addresses = [\"203.0.113.1-203.0.113.256\"]", `ends with what is not an address`},
		{in + "addresses = [\"x-203.0.113.2\"]", `starts with what is not an address`},
		{in + "addresses = [\"2001:db8::1\"]", `is IPv6, not IPv4`},
		{in + "addresses = [\"127.0.0.1\"]", `is a loopback address`},
		{in + "addresses = [\"223.0.0.0-255.0.0.0\"]", `ends with what is a reserved address`},
		{in + "addresses = [\"203.0.113.0/33\"]", `is not a prefix`},
		{in + "nat44 = \"pool\"\naddresses = [\"203.0.113.1-203.0.113.4\", \"203.0.113.4\"]", `t.toml:4:41: nat64.addresses: "203.0.113.4" overlaps "203.0.113.1-203.0.113.4"`},
		{in + "nat44 = \"pool\"\naddresses = [\"100.64.255.255-100.65.0.3\"]", `overlaps "100.64.0.0/16", nat64.pool`},
		{in + "ports-per-client = 70000", `t.toml:3:20: nat64.ports-per-client: "70000" is out of range`},
		{in + "ports-per-client = -1", `out of range`},
		{in + "connections-per-client = -1", `out of range`},
		{in + "connections-per-64 = -1", `out of range`},
		{in + "maps-per-64 = 0", `out of range`},
		{in + "map-idle = 7200", `t.toml:3:12: nat64.map-idle: "7200" is an integer, not a string`},
		{in + "map-idle = \"2 hours\"", `nat64.map-idle: "2 hours" is not a duration; allowed: a duration from "1s" to "720h"`},
		{in + "map-idle = \"0s\"", `is too short`},
		{in + "map-idle = \"-2h\"", `is too short`},
		{in + "map-idle = \"10000h\"", `is too long`},
		{in + "deny = \"10.0.0.0/8\"", `t.toml:3:8: nat64.deny: "10.0.0.0/8" is a string, not a list`},
		{in + "deny = [\"10.0.0.0/8\", \"2001:db8::/32\"]", `t.toml:3:23: nat64.deny: "2001:db8::/32" is IPv6, not IPv4`},
		{in + "deny = [\"10.0.0.1/8\"]", `did you mean "10.0.0.0/8"?`},
		{in + "tun = \"a-name-that-is-too-long\"", `nat64.tun: "a-name-that-is-too-long" is 23 bytes long`},
		// [[nat64.map]]
		{in + "map = 1", `nat64.map: "1" is an integer, not a list; allowed: a list of tables, [[nat64.map]]`},
		{in + "[[nat64.map]]\nipv4 = \"100.64.0.10\"", `t.toml:3:9: nat64.map: a required key is missing; allowed: ipv4 and ipv6`},
		{in + "[[nat64.map]]\nipv4 = \"10.0.0.1\"\nipv6 = \"2001:db8::1\"", `t.toml:4:8: nat64.map.ipv4: "10.0.0.1" is outside "100.64.0.0/16", nat64.pool`},
		{in + "[[nat64.map]]\nipv4 = \"100.64.0.1\"\nipv6 = \"2001:db8::1\"", `is the gateway's own address`},
		{in + "[[nat64.map]]\nipv4 = \"100.64.0.0\"\nipv6 = \"2001:db8::1\"", `is the network address of nat64.pool`},
		{in + "[[nat64.map]]\nipv4 = \"100.64.0.9\"\nipv6 = \"64:ff9b::1\"", `t.toml:5:8: nat64.map.ipv6: "64:ff9b::1" lies in "64:ff9b::/96", nat64.prefix`},
		{in + "[[nat64.map]]\nipv4 = \"100.64.0.9\"\nipv6 = \"fe80::1\"", `is a link-local address`},
		{in + "clients = [\"2001:db8:1::/48\"]\n[[nat64.map]]\nipv4 = \"100.64.0.9\"\nipv6 = \"2001:db8:2::1\"", `t.toml:6:8: nat64.map.ipv6: "2001:db8:2::1" is in none of nat64.clients`},
		{in + "[[nat64.map]]\nipv4 = \"100.64.0.9\"\nipv6 = \"2001:db8::1\"\n[[nat64.map]]\nipv4 = \"100.64.0.9\"\nipv6 = \"2001:db8::2\"", `t.toml:7:8: nat64.map.ipv4: "100.64.0.9" occurs twice`},
		{in + "[[nat64.map]]\nipv4 = \"100.64.0.9\"\nipv6 = \"2001:db8::1\"\n[[nat64.map]]\nipv4 = \"100.64.0.8\"\nipv6 = \"2001:db8::1\"", `t.toml:8:8: nat64.map.ipv6: "2001:db8::1" occurs twice`},
		{in + "[[nat64.map]]\nipv4 = \"100.64.0.9\"\nipv6 = \"2001:db8::1\"\nport = 1", `t.toml:6:1: unknown key "port" in [nat64.map]`},
		{in + "nat44 = \"pool\"\naddresses = [\"203.0.113.1\"]\nports-per-client = 2000\n[[nat64.map]]\nipv4 = \"100.64.0.34\"\nipv6 = \"2001:db8::1\"", `t.toml:7:8: nat64.map.ipv4: "100.64.0.34" has no outside address: there are port ranges for 32 clients only`},
		{in + "nat44 = \"pool\"\naddresses = [\"10.0.0.0/8\"]", `t.toml:4:14: nat64.addresses: 16777216 addresses are more than 65536`},
		// [[nat64.forward]]
		{in + "[[nat64.forward]]\noutside = \"203.0.113.1:8443\"\ninside = \"[2001:db8::1]:443\"", `t.toml:4:11: nat64.forward.outside: "203.0.113.1:8443" names no protocol; allowed: IPV4:PORT/tcp or IPV4:PORT/udp`},
		{in + "[[nat64.forward]]\noutside = \"203.0.113.1:8443/sctp\"\ninside = \"[2001:db8::1]:443\"", `has the protocol "sctp"`},
		{in + "[[nat64.forward]]\noutside = \"203.0.113.1/tcp\"\ninside = \"[2001:db8::1]:443\"", `has no port`},
		{in + "[[nat64.forward]]\noutside = \"203.0.113.1:0/tcp\"\ninside = \"[2001:db8::1]:443\"", `has port 0`},
		{in + "[[nat64.forward]]\noutside = \"203.0.113.1:65536/tcp\"\ninside = \"[2001:db8::1]:443\"", `is not ADDRESS:PORT`},
		{in + "[[nat64.forward]]\noutside = \"[2001:db8::1]:80/tcp\"\ninside = \"[2001:db8::1]:443\"", `is IPv6, not IPv4`},
		{in + "[[nat64.forward]]\noutside = \"203.0.113.1:80/tcp\"\ninside = \"10.0.0.1:443\"", `t.toml:5:10: nat64.forward.inside: "10.0.0.1:443" is IPv4, not IPv6`},
		{in + "[[nat64.forward]]\noutside = \"203.0.113.1:80/tcp\"\ninside = \"2001:db8::1\"", `has no port`},
		{in + "[[nat64.forward]]\noutside = \"203.0.113.1:80/tcp\"\ninside = \"[fe80::1%lan0]:80\"", `has a zone`},
		{in + "[[nat64.forward]]\noutside = \"100.64.0.9:80/tcp\"\ninside = \"[2001:db8::1]:80\"", `is in "100.64.0.0/16", nat64.pool`},
		{in + "nat44 = \"none\"\n[[nat64.forward]]\noutside = \"203.0.113.1:80/tcp\"\ninside = \"[2001:db8::1]:80\"", `nat64.nat44 is "none": the pool is routed`},
		{in + "[[nat64.forward]]\noutside = \"203.0.113.1:80/tcp\"\ninside = \"[2001:db8::1]:80\"\n[[nat64.forward]]\noutside = \"203.0.113.1:80/tcp\"\ninside = \"[2001:db8::2]:80\"", `t.toml:7:11: nat64.forward.outside: "203.0.113.1:80/tcp" occurs twice`},
		{in + "[[nat64.forward]]\noutside = \"203.0.113.1:80/tcp\"", `a required key is missing; allowed: outside and inside`},
		// [dns64]
		{in + "[dns64]\nlisten = \"[::1]:53\"", `dns64.listen: "[::1]:53" is a string, not a list`},
		{in + "[dns64]\nlisten = [\"lan0\"]", `t.toml:4:11: dns64.listen: "lan0" is not ADDRESS:PORT`},
		{in + "[dns64]\nlisten = [\"fe80::1\"]", `names no interface`},
		{in + "[dns64]\nlisten = [\"[2001:db8::1%lan0]:53\"]", `has a zone but is not link-local`},
		{in + "[dns64]\nupstream = [\"[::]:53\"]", `is the unspecified address`},
		{in + "[dns64]\nupstream = [\"dns.example:53\"]", `is not ADDRESS:PORT`},
		{in + "[dns64]\nlisten = [\"[2001:db8::1]:53\"]\nupstream = [\"2001:db8::1\"]", `t.toml:5:13: dns64.upstream: "[2001:db8::1]:53" is this DNS64 itself`},
		{in + "[dns64]\nlisten = [\"[::]:53\"]\nupstream = [\"127.0.0.1\"]", `is this DNS64 itself`},
		{in + "[dns64]\nexclude = [\"::ffff:0:0/95\"]", `t.toml:4:12: dns64.exclude`},
		{in + "[dns64]\nexclude = [\"10.0.0.0/8\"]", `is IPv4, not IPv6`},
		{in + "[dns64]\nprefixes = [\"64:ff9b::/97\"]", `cannot be a PREF64`},
		{in + "[dns64]\nprefixes = [\"2001:db8:1::/96\", \"2001:db8:2::/96\", \"2001:db8:3::/96\", \"2001:db8:4::/96\", \"2001:db8:5::/96\", \"2001:db8:6::/96\", \"2001:db8:7::/96\", \"2001:db8:8::/96\", \"2001:db8:9::/96\"]", `t.toml:4:165: dns64.prefixes: 9 prefixes are more than 8`},
		{in + "[dns64]\nqueries-per-second = -1", `out of range; allowed: 0 to 1000000 for each /64 (0: no limit)`},
		{in + "[dns64]\ncache-entries = 1000001", `out of range`},
		{in + "[[dns64.zone]]\nname = \"poc..vpn\"\nhosts = \"/etc/hosts\"", `t.toml:4:8: dns64.zone.name: "poc..vpn" has an empty label`},
		{in + "[[dns64.zone]]\nname = \".\"\nhosts = \"/etc/hosts\"", `is empty`},
		{in + "[[dns64.zone]]\nname = \"poc vpn\"\nhosts = \"/etc/hosts\"", `contains ' '`},
		{in + "[[dns64.zone]]\nname = \"" + strings.Repeat("a", 64) + "\"\nhosts = \"/etc/hosts\"", `has a label of 64 bytes`},
		{in + "[[dns64.zone]]\nname = \"" + strings.Repeat("a.", 127) + "a\"\nhosts = \"/etc/hosts\"", `is 255 bytes long`},
		{in + "[[dns64.zone]]\nname = \"poc.vpn\"\nhosts = \"etc/hosts\"", `is not an absolute path`},
		{in + "[[dns64.zone]]\nname = \"poc.vpn\"", `a required key is missing; allowed: name and hosts`},
		{in + "[[dns64.zone]]\nname = \"poc.vpn\"\nhosts = \"/a\"\n[[dns64.zone]]\nname = \"POC.VPN.\"\nhosts = \"/b\"", `t.toml:7:8: dns64.zone.name: "poc.vpn" occurs twice`},
		// [advertise]
		{in + "[advertise]\nprefix = \"2001:db8:1::/63\"", `t.toml:4:10: advertise.prefix: "2001:db8:1::/63" has length 63`},
		{in + "[advertise]\nprefix = \"2001:db8::/48\"", `has length 48: hosts make addresses only in a /64`},
		{in + "[advertise]\nprefix = \"fe80::/64\"", `is a link-local address`},
		{in + "[advertise]\ninterfaces = [\"lan0\"]\nprefix = \"64:ff9b::/64\"", `overlaps "64:ff9b::/96", nat64.prefix`},
		{in + "outside = [\"wan0\"]\n[advertise]\ninterfaces = [\"wan0\"]", `t.toml:5:15: advertise.interfaces: "wan0" is an interface of nat64.outside`},
		{"[advertise]\ninterfaces = [\"lan0\", \"lan1\"]\nprefix = \"2001:db8:1::/64\"", `t.toml:3:10: advertise.prefix: "2001:db8:1::/64" cannot be the prefix of all 2 links`},
		{in + "[advertise]\nrdnss = [\"192.0.2.1\"]", `is IPv4, not IPv6`},
		{in + "[advertise]\nmtu = 1279", `out of range`},
		{in + "[advertise]\nsource = \"2001:db8::1\"", `t.toml:4:10: advertise.source: "2001:db8::1" is not link-local`},
		{in + "[advertise]\nsource = \"169.254.1.1\"", `is not link-local`},
		{in + "[advertise]\nsource = \"fe80::64%lan0\"", `has a zone`},
		{in + "[advertise]\nlifetime = \"23s\"", `is too short`},
		{in + "[advertise]\nlifetime = \"19h\"", `is too long`},
		{in + "[advertise]\nlifetime = \"30.5s\"", `is not a whole number of seconds`},
		// [log], [control]
		{in + "[log]\nsessions = \"yes\"", `t.toml:4:12: log.sessions: "yes" is a string, not a boolean`},
		{in + "[control]\nmetrics = \"9647\"", `control.metrics: "9647" is not host:port; allowed: "127.0.0.1:9647"`},
		{in + "[control]\nsocket = \"g.sock\"", `is not an absolute path`},
		// TOML.
		{"[nat64", "invalid TOML"},
		{strings.Repeat("#", maxSize+1), "too large"},
	} {
		_, err := ParseGateway("t.toml", []byte(c.text))
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.120q: accepted, or another error: %v; want %s", c.text, err, c.want)
			continue
		}
		if !strings.Contains(e.Detail(), c.want) {
			t.Errorf("%.120q: %q is missing in\n%s", c.text, c.want, e.Detail())
		}
		if len(e.Problems) != 1 {
			t.Errorf("%.120q: %d problems for one mistake:\n%s", c.text, len(e.Problems), e.Detail())
		}
	}
}

func TestParseGatewayWarnings(t *testing.T) {
	const in = "[nat64]\ninside = [\"lan0\"]\n"
	for _, c := range []struct{ text, want string }{
		{in + "outside = [\"lan0\"]", `t.toml:3:12: nat64.outside: "lan0" is also in nat64.inside`},
		{in + "prefix = \"2001:db8:0:0:ff00::/96\"", `has bits 64 to 71 set`},
		{in + "clients = [\"::/0\"]", `t.toml:3:12: nat64.clients: "::/0" lets everyone who reaches the gateway use it`},
		{in + "clients = [\"2001:db8::/32\", \"2001:db8:1::/48\"]", `t.toml:3:29: nat64.clients: "2001:db8:1::/48" overlaps "2001:db8::/32"`},
		{in + "addresses = [\"203.0.113.1\"]", `t.toml:3:13: nat64.addresses: not used because nat64.nat44 is "masquerade"`},
		{in + "ports-per-client = 100", `not used because nat64.nat44 is "masquerade"`},
		{in + "nat44 = \"none\"\nconnections-per-client = 100", `not used because nat64.nat44 is "none"`},
		{in + "deny = [\"0.0.0.0/0\"]", `denies everything`},
		{in + "deny = [\"100.64.0.0/10\"]", `overlaps nat64.pool`},
		{in + "nat44 = \"pool\"\naddresses = [\"203.0.113.1\"]\n[[nat64.forward]]\noutside = \"203.0.113.2:80/tcp\"\ninside = \"[2001:db8::1]:80\"", `"203.0.113.2" is in none of nat64.addresses`},
		{in + "[dns64]\nupstream = [\"192.0.2.53\"]", `DNS64 is off because dns64.listen names no address`},
		{in + "[advertise]\nmtu = 1400", `no router advertisements are sent`},
		{in + "[advertise]\ninterfaces = [\"lan1\"]", `"lan1" is not in nat64.inside`},
		{in + "clients = [\"2001:db8:1::/48\"]\n[advertise]\ninterfaces = [\"lan0\"]\nprefix = \"2001:db8:2::/64\"", `"2001:db8:2::/64" is in none of nat64.clients`},
	} {
		f, err := ParseGateway("t.toml", []byte(c.text))
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if !slices.ContainsFunc(f.Warnings, func(p Problem) bool { return strings.Contains(p.String(), c.want) }) {
			t.Errorf("%q: %q is missing in %v", c.text, c.want, f.Warnings)
		}
	}
}

// What only the host shows is reported with its place.
func TestGatewayFileRefuse(t *testing.T) {
	f, err := ParseGateway("t.toml", []byte("[nat64]\ninside = [\"lan0\",\n \"lan9\"]\npool = \"100.64.0.0/16\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Err(); err != nil {
		t.Fatalf("nothing was refused: %v", err)
	}
	f.Refuse("nat64.inside", 1, `there is no interface "lan9"`, "lan0, lo")
	f.Refuse("nat64.pool", -1, `"100.64.0.0/16" is in use`, "")
	f.Refuse("nat64.tun", -1, `"nat64" exists`, "")
	const want = `t.toml:3:2: nat64.inside: there is no interface "lan9"; allowed: lan0, lo
t.toml:4:8: nat64.pool: "100.64.0.0/16" is in use
t.toml: nat64.tun: "nat64" exists`
	if got := f.Err(); got == nil || got.Error() != want {
		t.Errorf("got %v\nwant %s", got, want)
	}
}

func TestLoadGateway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.toml")
	if err := os.WriteFile(path, []byte("[nat64]\ninside = [\"lan0\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if f, err := LoadGateway(path); err != nil || len(f.Gateway.NAT64.Inside) != 1 {
		t.Errorf("%v", err)
	}
	if _, err := LoadGateway(filepath.Join(filepath.Dir(path), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
}

const gatewayExamplePath = "../../packaging/gateway.toml.example"

func TestGatewayExampleAsItIs(t *testing.T) {
	f, err := LoadGateway(gatewayExamplePath)
	if err != nil || len(f.Warnings) > 0 {
		t.Fatalf("%v, %+v", err, f)
	}
	want := DefaultGateway()
	want.NAT64.Inside = []string{"lan0"}
	if d := cmp.Diff(want, f.Gateway, cmpNetip); d != "" {
		t.Errorf("the example changes more than nat64.inside: (-default +example)\n%s", d)
	}
}

func TestGatewayExampleSwitchedOn(t *testing.T) {
	data, err := os.ReadFile(gatewayExamplePath)
	if err != nil {
		t.Fatal(err)
	}
	data = setting.ReplaceAll(data, []byte("$1"))
	// The one key whose value needs another's.
	data = []byte(strings.Replace(string(data), `nat44 = "masquerade"`, `nat44 = "pool"`, 1))
	f, err := ParseGateway("example", data)
	if err != nil || len(f.Warnings) > 0 {
		t.Fatalf("%v, %+v", err, f)
	}
	hasEveryKey(t, data, gatewaySchema(new(gatewayReading)))
	// What the comments do not call an example is the default.
	got, want := f.Gateway, DefaultGateway()
	want.NAT64.Inside, want.NAT64.Outside, want.NAT64.Clients, want.NAT64.NAT44 = got.NAT64.Inside, got.NAT64.Outside, got.NAT64.Clients, NAT44Pool
	want.NAT64.Addresses, want.NAT64.Deny, want.NAT64.Maps, want.NAT64.Forwards = got.NAT64.Addresses, got.NAT64.Deny, got.NAT64.Maps, got.NAT64.Forwards
	want.DNS64.Listen, want.DNS64.Upstream, want.DNS64.Prefixes, want.DNS64.Zones = got.DNS64.Listen, got.DNS64.Upstream, got.DNS64.Prefixes, got.DNS64.Zones
	want.Advertise.Interfaces, want.Advertise.Prefix, want.Advertise.RDNSS, want.Advertise.MTU = got.Advertise.Interfaces, got.Advertise.Prefix, got.Advertise.RDNSS, 1500
	want.Advertise.Source = got.Advertise.Source
	want.Control.Metrics = got.Control.Metrics
	if d := cmp.Diff(want, got, cmpNetip); d != "" {
		t.Errorf("the example shows other defaults: (-default +example)\n%s", d)
	}
}

func FuzzParseGateway(f *testing.F) {
	example, err := os.ReadFile(gatewayExamplePath)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add(setting.ReplaceAll(example, []byte("$1")))
	f.Add([]byte("nat64.map = [1, {}, [], {ipv4 = {}}]\nnat64.inside = []\n[[nat64.forward]]\n[dns64]\nzone = [{}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ParseGateway("f", data)
		if err == nil {
			file.Refuse("nat64.inside", 3, "x", "")
			err = file.Err()
		}
		var e *Error
		if errors.As(err, &e) && e.Detail() == "" {
			t.Error("a mistake without words")
		}
	})
}
