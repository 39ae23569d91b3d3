package mask

import (
	"encoding/hex"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"global address", "from 2001:db8:1:2:211:22ff:fe33:4455 on", "from <2001:db8:1::/48 #1> on"},
		{"the same address again", "2001:DB8:1::5, 2001:db8:1:0:0:0:0:5, 2001:db8:1::6", "<2001:db8:1::/48 #1>, <2001:db8:1::/48 #1>, <2001:db8:1::/48 #2>"},
		{"link-local address with a zone", "router fe80::211:22ff:fe33:4455%wlan0.", "router <fe80::/10 #1>%wlan0."},
		{"zone with a MAC address", "fe80::1%enx001122334455", "<fe80::/10 #1>%enx<id #2>"},
		{"prefix", "2001:db8:1:2::/64", "<2001:db8:1::/48 #1>/64"},
		{"at the end of a sentence", "no answer from 2001:db8::53: timeout; 2001:db8::53.", "no answer from <2001:db8::/48 #1>: timeout; <2001:db8::/48 #1>."},
		{"with a port", "[2001:db8:1::1]:443 192.0.2.7:53", "[<2001:db8:1::/48 #1>]:443 <IPv4 #2>:53"},
		{"well-known prefix", "64:ff9b::/96 64:ff9b::c633:6407 64:ff9b::198.51.100.7", "64:ff9b::/96 <64:ff9b::/32 #1> <64:ff9b::/32 #1>"},
		{"mapped address", "::ffff:192.0.2.7", "<::ffff:IPv4 #1>"},
		{"6to4 has an IPv4 address in its /48", "2002:c633:6407::1", "<2002::/16 #1>"},
		{"so has a short PREF64", "PREF64 2001:db8::/32 gives 2001:db8:c633:6407::", "PREF64 <2001:db8::/32 #1>/32 gives <2001:db8::/32 #2>"},
		{"solicited-node group", "ff02::1 ff02::1:ff33:4455", "ff02::1 <ff02::/48 #1>"},
		{"address cut short", "2001:db8:1:2:3:4", "<id #1>"},
		{"address in digits", "20010db8000100020211 22fffe334455 0xc6336407", "<id #1> <id #2> <id #3>"},
		{"IPv4", "198.51.100.7, 10.1.2.3, 100.64.0.1, 192.0.0.1, 127.0.0.1", "<IPv4 #1>, <private IPv4 #2>, <shared IPv4 #3>, 192.0.0.1, 127.0.0.1"},
		{"more than an IPv4 address", "1.2.3.4.5 300.1.2.3", "<id #1> <id #2>"},
		{"MAC addresses", "00:11:22:33:44:55 00-11-22-33-44-55 0011.2233.4455 wlx001122aabbcc", "<id #1> <id #3> <id #2> wlx<id #4>"},
		{"MAC addresses of switches", "001122-334455 0011-2233-4455 00 11 22 33 44 55", "<id #1> <id #2> <id #3>"},
		{"EUI-64 is no IPv6 address", "ac:de:48:00:11:22:33:44", "<id #1>"},
		{"bytes", `\xac\xde\x48\x00 [172 222 72 0 17 34]`, "<id #1> <id #2>"},
		{"DUID", "00:03:00:01:00:11:22:33:44:55", "<id #1>"},
		{"DUID by its name", `duid "\000\003\"x", DUID-LLT=Abc,client-id: 7`, "duid <id #1>, DUID-LLT=<id #2>,client-id: <id #3>"},
		{"UUID", "5f3c1a2b-0000-4aaa-8bbb-001122334455", "<id #1>"},
		{"names", "dns.example.net and ipv4only.arpa, Bücher.example", "<name #1> and ipv4only.arpa, <name #2>"},
		{"reverse names", "7.100.51.198.in-addr.arpa", "<name #1>"},
		{"name with the address in it", "host-2001-db8-1-2.example.net", "<name #1>"},
		{"own host name", "on Bobs-Laptop: bobs-laptop bobs-laptop", "on <name>: <name> <name>"},
		{"home directory", "/home/bob/tnat64d.toml", "/home/<user>/tnat64d.toml"},
		{"path", "/srv/acme/tnat64d.toml:3:1: x; in '/media/bob/ACME STICK'; unix:path=/run/dbus/system_bus_socket", "/srv/<path #1>/tnat64d.toml:3:1: x; in '/media/<path #2>'; unix:path=/run/dbus/system_bus_socket"},
		{"path in a home directory", "/var/home/bob/acme/tnat64d.toml /acme.toml", "/var/home/<user>/<path #1>/tnat64d.toml /<path #2>"},
		{"path with spaces", "  configuration     /srv/ACME & Sons/x y.toml\nopen /home/Bob Smith/a b: no such file\npath=\"/mnt/ACME & Sons/x: gone\"", "  configuration     /srv/<path #1>\nopen /home/<user>/<path #2>: no such file\npath=\"/mnt/<path #3>: gone\""},
		{"relative path", "-config ../acme/x.toml ./acme", "-config <path #1> <path #2>"},
		{"directory below one of everybody's", "/etc/tnat64/acme/x /usr/local/acme /usr/bin/curl", "/etc/<path #1> /<path #2> /usr/bin/curl"},
		{"network in a path", "/etc/NetworkManager/system-connections/Bobs-Wifi.nmconnection", "/etc/<path #1>"},
		{"value of the configuration", `/etc/tnat64/tnat64d.toml:4:8: clat.ipv4: "hunter2" is not an address; allowed: "/", ":"`, `/etc/tnat64/tnat64d.toml:4:8: clat.ipv4: "<value>" is not an address; allowed: "/", ":"`},
		{"value in an escaped message", `reason="a.toml:3:1: invalid TOML, at \"x=\\\"hunter2\": expected ']'" iface=wlan0`, `reason="<name #1>:3:1: invalid TOML, at \"<value>\": expected ']'" iface=wlan0`},
		{"value that says what is allowed", `tnat64.toml:1:1: k: "; allowed: hunter2" is wrong; allowed: b`, `tnat64.toml:1:1: k: "<value>" is wrong; allowed: b`},
		{"value without an end", `tnat64.toml:1:1: k: "hunter2`, `tnat64.toml:1:1: k: "<value>`},
		{"unknown key", `tnat64.toml:1:1: unknown key "passwrd" in [clat]; allowed: enable`, `tnat64.toml:1:1: unknown key "passwrd" in [clat]; allowed: enable`},
		{"line of the configuration", "    5 | passwrd = \"hunter2\" # Bob\n      | ^^^^\nNov 28 10:00:00 tnat64d[1]:     5 | # Bob", "    5 | <line of the configuration>\n      | ^^^^\nNov 28 10:00:00 tnat64d[1]:     5 | <line of the configuration>"},
		{"interface that a person named", `fe80::1%acme-vpn. iface=bobs_lan: on bobs_lan, wlan0`, `<fe80::/10 #1>%<link #2>. iface=<link #3>: on <link #3>, wlan0`},
		{"sender of a line of syslog", "Nov 28 10:00:00 nas9 tnat64d[12]: no CLAT\n2026-11-28T10:00:00.123+01:00 nas9 tnat64d: nas9", "Nov 28 10:00:00 <name> tnat64d[12]: no CLAT\n2026-11-28T10:00:00.123+01:00 <name> tnat64d: <name>"},
		{"SSID", `ssid="Bobs Wifi" SSID: Bobs`, `ssid=<name> SSID: <name>`},
		{"SSID in JSON", `{"ssid":"Bobs Wifi","n":1} {\"ssid\":\"Bobs Wifi\",\"n\":1} wpa_ssid Bobs`, `{"ssid":<name>,"n":1} {\"ssid\":<name>,\"n\":1} wpa_ssid <name>`},
		{"user and password of a URL", `proxy http://bobby:secret@192.0.2.1:80/`, `proxy http://<user>@<IPv4 #1>:80/`},
		{"client identifier in JSON", `{"duid":"00:01:ab","n":1}`, `{"duid":<id #1>,"n":1}`},
		{"interface in JSON", `{"iface":"bobs-lan","link":7} 7 bobs-lan {\"uplink\":\"bobs-wan\"}`, `{"iface":"<link #1>","link":7} 7 <link #1> {\"uplink\":\"<link #2>\"}`},
		{"SSID with quotes", `ssid="Bob's \"X\" Wifi" essid:'X Y' next`, `ssid=<name> essid:<name> next`},
		{"SSID with spaces", `msg="SSID: Bobs Wifi" SSID=Bobs Wifi, channel 6`, `msg="SSID: <name>" SSID=<name>, channel 6`},
		{"control characters", "a\x1b[31mb\tc\xff", "a [31mb c?"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			var m Masker
			m.Hide("bobs-laptop", "", "localhost")
			if got := m.Text(c.in); got != c.want {
				t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
			}
		})
	}
}

// TestTextKeeps has what a maintainer needs and everybody may see.
func TestTextKeeps(t *testing.T) {
	for _, s := range []string{
		"tnat64d v1.2.3-45-g8aab81c9d (go1.26.0)", "Linux 6.12.117+deb13-amd64, TUN, BPF with tcx", "6.1.0-56-amd64 6.18.5",
		"2026-11-28T03:17:19+01:00", "03:17:19.123456", "since 11:48:00 (12 minutes)", "1,234,567 packets 123456789 bytes",
		"/etc/tnat64/tnat64d.toml:3:12: unknown key", "clat.enable auto", "net.ipv6.conf.all.disable_ipv6", "resolv.conf",
		"reason=udp-zero-checksum engine=kernel", "clat0 192.0.0.1 mtu 1480", "systemd-resolved.service", "facade decade",
		"2026-11-28T03:17:19+0100 tnat64d[12]: rejected: keeping the old one", "Nov 28 03:17:19 systemd[1]: Started tnat64d.service: it is up",
		"iface=enp0s31f6 iface=wlp0s20f3 iface=wwan0 iface=eth0.42 iface=eno1 iface=ens3f0np0 fe80::%eth0", "linux/amd64 and/or TUN/TAP /usr/bin/curl /dev/net/tun",
		"/run/tnat64-lab/tn64-8749-4nmb7-1/tnat64d.sock", `reason="/dev/net/tun is missing"`, "  configuration     /etc/tnat64/tnat64d.toml", "open /dev/net/tun: no such file",
		"2 to 9 queues, 10 20 30", "[1 2 3]", "the client is idle", `level=INFO msg="no CLAT" reason="waiting"`,
	} {
		var m Masker
		if got := m.Text(s); got != s {
			t.Errorf("%q becomes %q", s, got)
		}
	}
}

// TestNamesInAddresses: the name of an interface or a host may look like a part of
// what replaces an address.
func TestNamesInAddresses(t *testing.T) {
	for _, name := range []string{"48", "db8", "2001", "1"} {
		var m Masker
		m.HideLinks(name)
		m.Hide(name)
		if got, want := m.Text("from 2001:db8:1:2::3 on "+name+"."), "from <2001:db8:1::/48 #"; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q does not begin with %q", name, got, want)
		} else if strings.HasSuffix(got, name+".") {
			t.Errorf("%s is left: %q", name, got)
		}
	}
}

// TestNumbersSpanTexts: an address has one number in a whole report.
func TestNumbersSpanTexts(t *testing.T) {
	var m Masker
	first, second := m.Text("2001:db8::1"), m.Text("2001:db8:0::1")
	if first != second {
		t.Errorf("%q and %q for one address", first, second)
	}
}

// secrets are the ways in which an address may be written.
func secrets(a netip.Addr, mac []byte) []string {
	four := netip.AddrFrom4([4]byte(a.AsSlice()[12:]))
	raw := hex.EncodeToString(a.AsSlice())
	var macColons []string
	for _, b := range mac {
		macColons = append(macColons, hex.EncodeToString([]byte{b}))
	}
	return []string{
		a.String(), a.StringExpanded(), strings.ToUpper(a.String()), raw, four.String(), "64:ff9b::" + four.String(),
		strings.Join(macColons, ":"), strings.Join(macColons, "-"), hex.EncodeToString(mac),
	}
}

var addressLike = regexp.MustCompile(`[0-9A-Fa-f:.]+`)

// survivors returns what still is an address that not everybody has.
func survivors(masked string) (left []string) {
	for _, token := range addressLike.FindAllString(prefixShown.ReplaceAllString(masked, "<"), -1) {
		a, err := netip.ParseAddr(strings.TrimRight(token, "."))
		if err == nil && !(a.Is4() && public4(a)) && !(a.Is6() && public6(a)) {
			left = append(left, token)
		}
	}
	return left
}

// prefixShown is the part of an address that stays: a prefix without anything
// behind its bits, which FuzzText checks.
var prefixShown = regexp.MustCompile(`<([0-9a-f:.]+/[0-9]+) #`)

// FuzzText writes an address in several ways into a text and looks for it, and
// for anything else that is an address, in what comes out.
func FuzzText(f *testing.F) {
	f.Add([]byte("\x20\x01\x0d\xb8\x00\x01\x00\x02\x02\x11\x22\xff\xfe\x33\x44\x55"), "from ", " on wlan0")
	f.Add([]byte("\x20\x02\xc6\x33\x64\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"), "[", "]:443: refused.")
	f.Add([]byte("\x20\x01\x0d\xb8\xc6\x33\x64\x07\x00\x00\x00\x00\x00\x00\x00\x00"), "2001:db8::/32 ", "/64.")
	f.Add([]byte("\x00\x64\xff\x9b\x00\x00\x00\x00\x00\x00\x00\x00\xc6\x33\x64\x07"), "12:30:45 a=", "%eth0,::1")
	f.Add([]byte("\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"), "enx001122334455 1.2.3.4.", "\x00")
	f.Fuzz(func(t *testing.T, raw []byte, before, after string) {
		if len(raw) < 16 || len(before)+len(after) > 400 {
			return
		}
		a := netip.AddrFrom16([16]byte(raw[:16]))
		for _, secret := range secrets(a, raw[10:16]) {
			var m Masker
			text := before + " " + secret + " " + after
			out := m.Text(text)
			if left := survivors(out); len(left) > 0 {
				t.Errorf("%q becomes %q: %q is left", text, out, left)
			}
			for _, shown := range prefixShown.FindAllStringSubmatch(out, -1) {
				p, err := netip.ParsePrefix(shown[1])
				if err != nil || p.Bits() > keptBits || p != p.Masked() {
					t.Errorf("%q becomes %q: %q shows more than a /48", text, out, shown[1])
				}
			}
			known, err := netip.ParseAddr(secret)
			harmless := err == nil && (known.Is6() && public6(known) || known.Is4() && public4(known)) || !strings.ContainsAny(secret, "123456789abcdefABCDEF")
			if _, kept, _ := strings.Cut(before+" "+after, secret); !harmless && kept == "" && strings.Contains(" "+out+" ", " "+secret+" ") {
				t.Errorf("%q becomes %q: %q is left", text, out, secret)
			}
		}
	})
}
