package config

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// cmpNetip compares the addresses inside configurations.
var cmpNetip = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

func TestParseEmptyIsDefault(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "[clat]\n[control]\n"} {
		c, warnings, err := Parse("t.toml", []byte(text))
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%q: %v, warnings %v", text, err, warnings)
		}
		if d := cmp.Diff(Default(), c, cmpNetip); d != "" {
			t.Errorf("%q: (-default +parsed)\n%s", text, d)
		}
	}
}

func TestParseEveryKey(t *testing.T) {
	want := Config{
		CLAT: CLAT{
			Enable:    Always,
			Uplinks:   []string{"wlan0", "eth0.5"},
			PREF64:    []netip.Prefix{netip.MustParsePrefix("2001:db8:64::/96"), netip.MustParsePrefix("64:ff9b::/96")},
			IPv6:      netip.MustParseAddr("2001:db8:1::c1a7"),
			IPv4:      netip.MustParseAddr("192.0.0.1"),
			IPv4Fixed: true,
			Engine:    EngineUser,
			TUN:       "v4",
			MTU:       1400,
			Metric:    4294967295,
			Queues:    2,
			Routes: []Route{
				{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:c::/96")},
				{netip.MustParsePrefix("10.1.2.3/32"), netip.Prefix{}},
			},
		},
		Discovery: Discovery{
			Sources:    []Source{DNS, RA},
			DNSServers: []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("fe80::1%eth0")},
		},
		Translation: Translation{
			LowestIPv6MTU:       1400,
			TrafficClass:        ZeroClass,
			TOS:                 ZeroClass,
			UDPZeroChecksum:     DropZeroChecksum,
			WKPPrivate:          DropPrivate,
			ICMPErrorsPerSecond: 0,
			ICMPSource:          netip.MustParseAddr("192.0.0.8"),
			NodeID:              false,
			EAM: []Mapping{
				{netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("2001:db8:cccc::/124")},
				{netip.MustParsePrefix("192.0.2.16/32"), netip.MustParsePrefix("2001:db8:dddd::1/128")},
			},
		},
		Control: Control{Socket: "/tmp/t.sock", Metrics: "[::1]:9646"},
	}
	tables := `
[clat]
enable = "always"
uplinks = ["wlan0", "eth0.5"]
pref64 = [
	"2001:db8:64::/96", # the near one
	"64:ff9b::/96",
]
ipv6 = "2001:db8:1::c1a7"
ipv4 = "192.0.0.1"
engine = "user"
tun = "v4"
mtu = 1_400
metric = 0xffff_ffff
queues = +2
[[clat.route]]
network = "10.0.0.0/8"
pref64 = "2001:db8:c::/96"
[[clat.route]]
network = "10.1.2.3"
pref64 = "none"
[discovery]
sources = ["dns", "ra"]
dns-servers = ["2001:db8::53", "fe80::1%eth0"]
[translation]
lowest-ipv6-mtu = 1400
traffic-class = "zero"
tos = "zero"
udp-zero-checksum = "drop"
wkp-private = "drop"
icmp-errors-per-second = 0
icmp-source = "192.0.0.8"
node-id = false
[[translation.eam]]
ipv4 = "192.0.2.0/28"
ipv6 = "2001:db8:cccc::/124"
[[translation.eam]]
ipv4 = "192.0.2.16" # no length: one address
ipv6 = "2001:db8:dddd::1"
[control]
socket = "/tmp/t.sock"
metrics = "[::1]:9646"
`
	// The same in TOML's other spellings.
	inline := `
clat.enable = 'always'
clat . uplinks = ['wlan0', 'eth0.5']
"clat".pref64 = ["2001:db8:64::/96", "64:ff9b::/96",]
discovery = { sources = ["dns", "ra"], dns-servers = ["2001:db8::53", "fe80::1%eth0"] }
translation = { lowest-ipv6-mtu = 1400, traffic-class = "zero", tos = "zero", udp-zero-checksum = "drop", wkp-private = "drop", icmp-errors-per-second = 0, icmp-source = "192.0.0.8", node-id = false, eam = [{ipv4 = "192.0.2.0/28", ipv6 = "2001:db8:cccc::/124"}, {ipv4 = "192.0.2.16/32", ipv6 = "2001:db8:dddd::1/128"}] }
control.socket = "/tmp//t.sock"
control.metrics = """[::1]:9646"""
clat.ipv6 = "2001:DB8:1:0::C1A7"
clat.ipv4 = "192.0.0.1"
clat.engine = "user"
clat.tun = "v4"
clat.mtu = 0x578
clat.metric = 4294967295
clat.queues = 2
clat.route = [{network = "10.0.0.0/8", pref64 = "2001:db8:c::/96"}, {network = "10.1.2.3/32", pref64 = "none"}]
`
	for name, text := range map[string]string{"tables": tables, "inline": inline} {
		c, warnings, err := Parse("t.toml", []byte(text))
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: %v, warnings %v", name, err, warnings)
		}
		if d := cmp.Diff(want, c, cmpNetip); d != "" {
			t.Errorf("%s: (-want +parsed)\n%s", name, d)
		}
	}
}

// TestMistakes shows every message there is. One line of text, or a table and
// a line under it, and the problem that it gives.
func TestMistakes(t *testing.T) {
	const (
		ifname   = `an interface name: 1 to 15 bytes without space, "/", ":" or "%"`
		pref     = `an IPv6 prefix of length 32, 40, 48, 56, 64 or 96 (RFC 6052), for example 64:ff9b::/96`
		ipv6     = `a unicast IPv6 address of the uplink's network, or "shared" for the host's own`
		ipv4     = `a unicast IPv4 address, preferably one of 192.0.0.0/29`
		source   = `a unicast IPv4 address other than clat.ipv4, preferably one of 192.0.0.0/29`
		mtu      = `1260 to 65515 (the IPv6 MTU is 20 more and must be at least 1280)`
		queues   = `0 to 16 (0: one for each CPU, at most 4)`
		metrics  = `"127.0.0.1:9646", "[::1]:9646", ":9646" (every address) or any other ADDRESS:PORT; "" is off`
		clatKeys = `enable, uplinks, pref64, ipv6, ipv4, engine, tun, mtu, metric, queues, route`
	)
	strs := func(s string) string { return "a list of strings, each " + s }
	for _, tc := range []struct{ text, want string }{
		// TOML itself.
		{"[clat\nmtu = 1400", `1:6: invalid TOML, at the end of the line: expected ']' to close table name`},
		{"[clat]\nenable = auto", `2:10: invalid TOML, at "auto": unexpected character U+0061 'a' at start of value; allowed: text in double quotes, a number, true, false`},
		{"[clat]\nmtu = 1400\nmtu = 1400", `3:1: invalid TOML, at "mtu = 1400": key mtu is already defined`},
		{"[clat]\nmtu = \x00", `2:7: invalid TOML, at "\x00": unexpected character U+0000 at start of value`},
		{"[clat]\nmtu = 99999999999999999999", `2:7: invalid TOML, at "99999999999999999999": decimal number is too large to fit in a 64-bit signed integer`},

		// Names.
		{"[clatt]\nmtu = 1", `1:2: unknown table "clatt" (did you mean "clat"?); allowed: clat, discovery, translation, control`},
		{"[[plat]]", `1:3: unknown table "plat" (did you mean "clat"?); allowed: clat, discovery, translation, control`},
		{"mtu = 1400", `1:1: key "mtu" is outside a table; allowed: clat, discovery, translation, control`},
		{"clat = 5", `1:8: clat: "5" is an integer, not a table; allowed: a table, [clat]`},
		{"[[clat]]", `1:3: clat: "[...]" is a list, not a table; allowed: a table, [clat]`},
		{"[clat]\nMTU2 = 1400", `2:1: unknown key "MTU2" in [clat] (did you mean "mtu"?); allowed: ` + clatKeys},
		{"[clat]\nfrobnicate = 1400", `2:1: unknown key "frobnicate" in [clat]; allowed: ` + clatKeys},
		{"[clat.mtu]\n", `1:7: clat.mtu: "{...}" is a table, not an integer; allowed: ` + mtu},
		{"[translation]\nnode_id = true", `2:1: unknown key "node_id" in [translation] (did you mean "node-id"?); allowed: lowest-ipv6-mtu, traffic-class, tos, udp-zero-checksum, wkp-private, icmp-errors-per-second, icmp-source, node-id, eam`},

		// [clat]
		{"[clat]\nenable = \"sometimes\"", `2:10: clat.enable: "sometimes" is not an allowed value; allowed: auto, always, never`},
		{"[clat]\nenable = \"Always\"", `2:10: clat.enable: "Always" is not an allowed value (did you mean "always"?); allowed: auto, always, never`},
		{"[clat]\nenable = true", `2:10: clat.enable: "true" is a boolean, not a string; allowed: auto, always, never`},
		{"[clat]\nuplinks = \"wlan0\"", `2:11: clat.uplinks: "wlan0" is a string, not a list; allowed: ` + strs(ifname)},
		{"[clat]\nuplinks = [\"wlan0\", \"a/b\"]", `2:21: clat.uplinks: "a/b" contains '/'; allowed: ` + ifname},
		{"[clat]\nuplinks = [\n  \"wlan0\",\n  7]", `4:3: clat.uplinks: "7" is an integer, not a string; allowed: ` + ifname},
		{"[clat]\nuplinks = [\"a\", \"b\", \"a\"]", `2:22: clat.uplinks: "a" occurs twice; allowed: each value once`},
		{"[clat]\nuplinks = [[\"a\"]]", `2:11: clat.uplinks: "[...]" is a list, not a string; allowed: ` + ifname},
		{"[clat]\nuplinks = [\"clat0\"]", `2:12: clat.uplinks: "clat0" is clat.tun, the CLAT's own interface; allowed: interfaces other than clat.tun`},
		{"[clat]\npref64 = \"64:ff9b::/96\"", `2:10: clat.pref64: "64:ff9b::/96" is a string, not a list; allowed: ` + strs(pref)},
		{"[clat]\npref64 = [\"64:ff9b::/95\"]", `2:11: clat.pref64: "64:ff9b::/95" cannot be a PREF64: its length must be 32, 40, 48, 56, 64 or 96 (RFC 6052 section 2.2); allowed: ` + pref},
		{"[clat]\npref64 = [\"64:ff9b::\"]", `2:11: clat.pref64: "64:ff9b::" has no prefix length; allowed: ` + pref},
		{"[clat]\npref64 = [\"64:ff9b::/200\"]", `2:11: clat.pref64: "64:ff9b::/200" is not a prefix; allowed: ` + pref},
		{"[clat]\npref64 = [\"10.0.0.0/8\"]", `2:11: clat.pref64: "10.0.0.0/8" is IPv4, not IPv6; allowed: ` + pref},
		{"[clat]\npref64 = [\"64:ff9b::1/96\"]", `2:11: clat.pref64: "64:ff9b::1/96" has bits beyond its length (did you mean "64:ff9b::/96"?); allowed: ` + pref},
		{"[clat]\npref64 = [\"ff0e::/96\"]", `2:11: clat.pref64: "ff0e::/96" cannot be a PREF64: multicast addresses cannot be translated; allowed: ` + pref},
		{"[clat]\npref64 = [\"::ffff:0.0.0.0/96\"]", `2:11: clat.pref64: "::ffff:0.0.0.0/96" is an IPv4-mapped address, not IPv6; allowed: ` + pref},
		{"[clat]\nipv6 = \"192.0.0.1\"", `2:8: clat.ipv6: "192.0.0.1" is IPv4, not IPv6; allowed: ` + ipv6},
		{"[clat]\nipv6 = \"2001:db8::1/64\"", `2:8: clat.ipv6: "2001:db8::1/64" is not an address (it takes no prefix length); allowed: ` + ipv6},
		{"[clat]\nipv6 = \"fe80::1\"", `2:8: clat.ipv6: "fe80::1" is a link-local address; allowed: ` + ipv6},
		{"[clat]\nipv6 = \"fe80::1%eth0\"", `2:8: clat.ipv6: "fe80::1%eth0" has a zone; allowed: ` + ipv6},
		{"[clat]\nipv6 = \"::1\"", `2:8: clat.ipv6: "::1" is a loopback address; allowed: ` + ipv6},
		{"[clat]\nipv6 = \"::\"", `2:8: clat.ipv6: "::" is the unspecified address; allowed: ` + ipv6},
		{"[clat]\nipv6 = \"ff02::1\"", `2:8: clat.ipv6: "ff02::1" is a multicast address; allowed: ` + ipv6},
		{"[clat]\nipv6 = \"2001:db8:64::c0a8:1\"\npref64 = [\"64:ff9b::/96\", \"2001:db8:64::/96\"]", `2:8: clat.ipv6: "2001:db8:64::c0a8:1" lies in "2001:db8:64::/96" of clat.pref64, and the PLAT drops packets from its own prefix; allowed: an address outside every prefix of clat.pref64`},
		{"[clat]\nipv4 = \"2001:db8::1\"", `2:8: clat.ipv4: "2001:db8::1" is IPv6, not IPv4; allowed: ` + ipv4},
		{"[clat]\nipv4 = \"192.0.0.256\"", `2:8: clat.ipv4: "192.0.0.256" is not an address; allowed: ` + ipv4},
		{"[clat]\nipv4 = \"192.0.0.8\"", `2:8: clat.ipv4: "192.0.0.8" is the IPv4 dummy address, which is only a source of ICMP errors (RFC 7600); allowed: ` + ipv4},
		{"[clat]\nipv4 = \"192.0.0.9\"", `2:8: clat.ipv4: "192.0.0.9" is the anycast address of PCP servers (RFC 7723); allowed: ` + ipv4},
		{"[clat]\nipv4 = \"192.0.0.170\"", `2:8: clat.ipv4: "192.0.0.170" is an address of ipv4only.arpa, which is for discovering PREF64 (RFC 7050); allowed: ` + ipv4},
		{"[clat]\nipv4 = \"192.0.0.171\"", `2:8: clat.ipv4: "192.0.0.171" is an address of ipv4only.arpa, which is for discovering PREF64 (RFC 7050); allowed: ` + ipv4},
		{"[clat]\nipv4 = \"240.0.0.1\"", `2:8: clat.ipv4: "240.0.0.1" is a reserved address; allowed: ` + ipv4},
		{"[clat]\nipv4 = \"0.1.2.3\"", `2:8: clat.ipv4: "0.1.2.3" is a reserved address; allowed: ` + ipv4},
		{"[clat]\nengine = \"kernal\"", `2:10: clat.engine: "kernal" is not an allowed value (did you mean "kernel"?); allowed: auto, kernel, user`},
		{"[clat]\ntun = \"\"", `2:7: clat.tun: "" is empty; allowed: ` + ifname},
		{"[clat]\ntun = \"interface-number-1\"", `2:7: clat.tun: "interface-number-1" is 18 bytes long; allowed: ` + ifname},
		{"[clat]\ntun = \"..\"", `2:7: clat.tun: ".." cannot be an interface name; allowed: ` + ifname},
		{"[clat]\ntun = \"a b\"", `2:7: clat.tun: "a b" contains ' '; allowed: ` + ifname},
		{"[clat]\ntun = \"clat%d\"", `2:7: clat.tun: "clat%d" contains '%'; allowed: ` + ifname},
		{"[clat]\nmtu = \"1400\"", `2:7: clat.mtu: "1400" is a string, not an integer; allowed: ` + mtu},
		{"[clat]\nmtu = 1400.0", `2:7: clat.mtu: "1400.0" is a floating-point number, not an integer; allowed: ` + mtu},
		{"[clat]\nmtu = 2026-11-21", `2:7: clat.mtu: "2026-11-21" is a date or time, not an integer; allowed: ` + mtu},
		{"[clat]\nmtu = [1400]", `2:7: clat.mtu: "[...]" is a list, not an integer; allowed: ` + mtu},
		{"[clat]\nmtu = 1259", `2:7: clat.mtu: "1259" is out of range; allowed: ` + mtu},
		{"[clat]\nmtu = 65516", `2:7: clat.mtu: "65516" is out of range; allowed: ` + mtu},
		{"[clat]\nmtu = 0", `2:7: clat.mtu: "0" is out of range; allowed: ` + mtu},
		{"[clat]\nmetric = -1", `2:10: clat.metric: "-1" is out of range; allowed: 0 to 4294967295`},
		{"[clat]\nmetric = 4294967296", `2:10: clat.metric: "4294967296" is out of range; allowed: 0 to 4294967295`},
		{"[clat]\nqueues = 17", `2:10: clat.queues: "17" is out of range; allowed: ` + queues},

		// [[clat.route]]
		{"[[clat.route]]\nnetwork = \"10.0.0.0/8\"", `1:8: clat.route: a required key is missing; allowed: network and pref64`},
		{"[[clat.route]]\nnetwork = \"2001:db8::/32\"\npref64 = \"none\"", `2:11: clat.route.network: "2001:db8::/32" is IPv6, not IPv4; allowed: an IPv4 prefix or address, for example "192.168.0.0/16"`},
		{"[[clat.route]]\nnetwork = \"10.0.0.0/8\"\npref64 = \"nobody\"", `3:10: clat.route.pref64: "nobody" is not an address; allowed: ` + pref + `, or "none"`},
		{"[[clat.route]]\nnetwork = \"10.0.0.0/8\"\npref64 = \"none\"\n[[clat.route]]\nnetwork = \"10.0.0.0/8\"\npref64 = \"none\"", `5:11: clat.route.network: "10.0.0.0/8" occurs twice; allowed: each network once`},
		{"[[clat.route]]\nnetwork = \"10.0.0.0/8\"\npref64 = \"2001:db8::/32\"\n[[clat.route]]\nnetwork = \"11.0.0.0/8\"\npref64 = \"2001:db8:c::/96\"", `6:10: clat.route.pref64: "2001:db8:c::/96" overlaps "2001:db8::/32" of another network; allowed: prefixes that are equal or do not overlap`},
		{"[clat]\nipv6 = \"2001:db8:c::5\"\n[[clat.route]]\nnetwork = \"10.0.0.0/8\"\npref64 = \"2001:db8:c::/96\"", `5:10: clat.route.pref64: "2001:db8:c::/96" contains clat.ipv6, and the PLAT drops packets from its own prefix; allowed: prefixes without clat.ipv6`},
		{"[clat.route]\nnetwork = \"10.0.0.0/8\"", `1:7: clat.route: "{...}" is a table, not a list; allowed: a list of tables, [[clat.route]]`},

		// [discovery]
		{"[discovery]\nsources = [\"ra\", \"pcp\"]", `2:18: discovery.sources: "pcp" is not an allowed value; allowed: ra, dns`},
		{"[discovery]\nsources = []", `2:11: discovery.sources: "[]" without clat.pref64 leaves no way to find a prefix; allowed: at least one of ra, dns, or a prefix in clat.pref64`},
		{"[discovery]\ndns-servers = [\"192.0.2.53\"]", `2:16: discovery.dns-servers: "192.0.2.53" is IPv4, not IPv6; allowed: a unicast IPv6 address`},
		{"[discovery]\ndns-servers = [\"2001:db8::53%eth0\"]", `2:16: discovery.dns-servers: "2001:db8::53%eth0" has a zone but is not link-local; allowed: a unicast IPv6 address`},
		{"[discovery]\nplat-probe = \"192.0.0.170\"", `2:14: discovery.plat-probe: "192.0.0.170" is an address of ipv4only.arpa, which is for discovering PREF64 (RFC 7050); allowed: a unicast IPv4 address whose owner agrees to be pinged`},
		{"[discovery]\nplat-probe = \"192.0.0.1\"", `2:14: discovery.plat-probe: "192.0.0.1" is an address of CLATs (RFC 7335); allowed: a unicast IPv4 address whose owner agrees to be pinged`},
		{"[discovery]\ndns-servers = [\"resolver\"]", `2:16: discovery.dns-servers: "resolver" is not an address; allowed: a unicast IPv6 address`},

		// [translation]
		{"[translation]\nlowest-ipv6-mtu = 1279", `2:19: translation.lowest-ipv6-mtu: "1279" is out of range; allowed: 1280 to 65535`},
		{"[translation]\nlowest-ipv6-mtu = 65536", `2:19: translation.lowest-ipv6-mtu: "65536" is out of range; allowed: 1280 to 65535`},
		{"[translation]\nudp-zero-checksum = \"calculate\"", `2:21: translation.udp-zero-checksum: "calculate" is not an allowed value; allowed: compute, drop`},
		{"[translation]\ntos = \"keep\"", `2:7: translation.tos: "keep" is not an allowed value; allowed: copy, zero`},
		{"[translation]\nwkp-private = false", `2:15: translation.wkp-private: "false" is a boolean, not a string; allowed: allow, drop`},
		{"[translation]\nicmp-errors-per-second = -1", `2:26: translation.icmp-errors-per-second: "-1" is out of range; allowed: 0 or more (0: none are sent)`},
		{"[translation]\nicmp-source = \"::1\"", `2:15: translation.icmp-source: "::1" is IPv6, not IPv4; allowed: ` + source},
		{"[translation]\nicmp-source = \"224.0.0.1\"", `2:15: translation.icmp-source: "224.0.0.1" is a multicast address; allowed: ` + source},
		{"[translation]\nicmp-source = \"192.0.0.1\"", `2:15: translation.icmp-source: "192.0.0.1" is the default of clat.ipv4; allowed: an address other than clat.ipv4`},
		{"[translation]\nicmp-source = \"192.0.0.5\"\n[clat]\nipv4 = \"192.0.0.5\"", `2:15: translation.icmp-source: "192.0.0.5" is also clat.ipv4; allowed: an address other than clat.ipv4`},
		{"[translation]\nnode-id = \"true\"", `2:11: translation.node-id: "true" is a string, not a boolean; allowed: true, false`},
		{"[translation]\nnode-id = 1", `2:11: translation.node-id: "1" is an integer, not a boolean; allowed: true, false`},

		// [[translation.eam]]
		{"[translation.eam]\nipv4 = \"192.0.2.1\"", `1:14: translation.eam: "{...}" is a table, not a list; allowed: a list of tables, [[translation.eam]]`},
		{"[translation]\neam = [\"192.0.2.1\"]", `2:8: translation.eam: "192.0.2.1" is a string, not a table; allowed: a table with ipv4 and ipv6`},
		{"[[translation.eam]]\nipv4 = \"192.0.2.1\"", `1:15: translation.eam: a required key is missing; allowed: ipv4 and ipv6`},
		{"[[translation.eam]]\nipv4 = \"2001:db8::1\"\nipv6 = \"2001:db8::1\"", `2:8: translation.eam.ipv4: "2001:db8::1" is IPv6, not IPv4; allowed: an IPv4 address or prefix`},
		{"[[translation.eam]]\nipv4 = \"192.0.2.1\"\nipv6 = \"192.0.2.1/32\"", `3:8: translation.eam.ipv6: "192.0.2.1/32" is IPv4, not IPv6; allowed: an IPv6 address or prefix`},
		{"[[translation.eam]]\nipv4 = \"192.0.2.1\"\nipv6 = \"fe80::1\"", `3:8: translation.eam.ipv6: "fe80::1" overlaps fe80::/10, which never leaves the link; allowed: an IPv6 address or prefix`},
		{"[[translation.eam]]\nipv4 = \"192.0.2.1\"\nipv6 = \"ff02::1/128\"", `3:8: translation.eam.ipv6: "ff02::1/128" overlaps ff00::/8, which never leaves the link; allowed: an IPv6 address or prefix`},
		{"[[translation.eam]]\nipv4 = \"192.0.2.0/24\"\nipv6 = \"::/96\"", `3:8: translation.eam.ipv6: "::/96" overlaps ::1/128, which never leaves the link; allowed: an IPv6 address or prefix`},
		{"[[translation.eam]]\nipv4 = \"192.0.2.1/28\"\nipv6 = \"2001:db8::/124\"", `2:8: translation.eam.ipv4: "192.0.2.1/28" has bits beyond its length (did you mean "192.0.2.0/28"?); allowed: an IPv4 address or prefix`},
		{"[[translation.eam]]\nipv4 = \"192.0.2.0/24\"\nipv6 = \"2001:db8::/124\"", `3:8: translation.eam.ipv6: "2001:db8::/124" has 4 bits after its prefix, but "192.0.2.0/24" in ipv4 has 8; allowed: a prefix length of at most 120`},
		{"[[translation.eam]]\nipv4 = \"192.0.2.0\"\nipv6 = \"2001:db8::\"\nport = 5", `4:1: unknown key "port" in [translation.eam]; allowed: ipv4, ipv6`},
		{"[[translation.eam]]\nipv4 = \"192.0.2.0\"\nipv6 = \"2001:db8::\"\n[[translation.eam]]\nipv4 = \"192.0.2.0/32\"\nipv6 = \"2001:db8::1\"", `5:8: translation.eam.ipv4: "192.0.2.0/32" occurs twice; allowed: each prefix once`},
		{"[translation]\neam = [{ipv4 = \"192.0.2.0\", ipv6 = \"2001:db8::\"}, {ipv4 = \"192.0.2.1\", ipv6 = \"2001:db8::\"}]", `2:79: translation.eam.ipv6: "2001:db8::" occurs twice; allowed: each prefix once`},
		{"[[translation.eam]]\nipv4 = \"192.0.0.1\"\nipv6 = \"2001:db8::\"", `2:8: translation.eam.ipv4: "192.0.0.1" is clat.ipv4, the CLAT's own address; allowed: other prefixes`},

		// [control]
		{"[control]\nsocket = \"tnat64d.sock\"", `2:10: control.socket: "tnat64d.sock" is not an absolute path; allowed: an absolute path of up to 107 bytes`},
		{"[control]\nsocket = \"\"", `2:10: control.socket: "" is empty; allowed: an absolute path of up to 107 bytes`},
		{"[control]\nsocket = \"/run/\"", `2:10: control.socket: "/run/" is a directory; allowed: an absolute path of up to 107 bytes`},
		{"[control]\nmetrics = 9646", `2:11: control.metrics: "9646" is an integer, not a string; allowed: ` + metrics},
		{"[control]\nmetrics = \"9646\"", `2:11: control.metrics: "9646" is not host:port; allowed: ` + metrics},
		{"[control]\nmetrics = \"127.0.0.1:http\"", `2:11: control.metrics: "127.0.0.1:http" has the port "http", which is not between 1 and 65535; allowed: ` + metrics},
		{"[control]\nmetrics = \":0\"", `2:11: control.metrics: ":0" has the port "0", which is not between 1 and 65535; allowed: ` + metrics},
		{"[control]\nmetrics = \"server:9646\"", `2:11: control.metrics: "server:9646" has the host "server", which is neither an address nor localhost; allowed: ` + metrics},
	} {
		_, _, err := Parse("t.toml", []byte(tc.text))
		if err == nil {
			t.Errorf("%q: no error; want %s", tc.text, tc.want)
			continue
		}
		if got := err.Error(); got != "t.toml:"+tc.want {
			t.Errorf("%q:\n got %s\nwant t.toml:%s", tc.text, got, tc.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"[clat]\npref64 = [\"64:ff9b::/96\", \"2001:db8:0:0:ff00::/96\"]", `2:27: clat.pref64: "2001:db8:0:0:ff00::/96" has bits 64 to 71 set, which must be zero (RFC 6052)`},
		{"[discovery]\nsources = [\"ra\"]\ndns-servers = [\"2001:db8::53\"]", `3:15: discovery.dns-servers: not used because discovery.sources does not contain "dns"`},
		{"[[translation.eam]]\nipv4 = \"192.0.2.4/30\"\nipv6 = \"2001:db8::/124\"\n[[translation.eam]]\nipv4 = \"192.0.2.0/24\"\nipv6 = \"2001:db8:1::/120\"", `2:8: translation.eam.ipv4: "192.0.2.4/30" lies in "192.0.2.0/24" of another entry; the longer prefix wins`},
	} {
		_, warnings, err := Parse("t.toml", []byte(tc.text))
		if err != nil || len(warnings) != 1 || warnings[0].String() != "t.toml:"+tc.want {
			t.Errorf("%q: warnings %v, error %v; want %s", tc.text, warnings, err, tc.want)
		}
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	_, _, err := Parse("t.toml", []byte("[clat]\n\tengine = \"ébpf\"\nmtu = 5 # too small\n"))
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T", err)
	}
	const want = `t.toml:2:11: clat.engine: "ébpf" is not an allowed value; allowed: auto, kernel, user
    2 |  engine = "ébpf"
      |           ^^^^^^
t.toml:3:7: clat.mtu: "5" is out of range; allowed: 1260 to 65515 (the IPv6 MTU is 20 more and must be at least 1280)
    3 | mtu = 5 # too small
      |       ^
`
	if d := cmp.Diff(want, e.Detail()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestMistakesAreBounded(t *testing.T) {
	_, _, err := Parse("t.toml", []byte("[clat]\nuplinks = ["+strings.Repeat(`"",`, 1000)+"]"))
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) != maxProblems+1 {
		t.Fatalf("got %v", err)
	}
	if got, want := e.Problems[maxProblems].String(), "t.toml: 980 more errors"; got != want {
		t.Errorf("last line %q, want %q", got, want)
	}
}

func TestTerminalIsSafe(t *testing.T) {
	_, _, err := Parse("t.toml", []byte("[clat]\ntun = 'a\u009b31m' # \u202e\n"))
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v", err)
	}
	if d := e.Detail(); strings.ContainsAny(d, "\u009b\u202e\x1b") {
		t.Errorf("control characters of the file reach the terminal: %q", d)
	}
}
