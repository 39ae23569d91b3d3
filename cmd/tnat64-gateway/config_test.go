package main

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tnat64d/internal/config"
	"tnat64d/internal/say"
)

func TestHostCheck(t *testing.T) {
	host := hostView{
		links: []string{"lo", "lan0", "wan0"},
		addresses: []hostPrefix{
			{netip.MustParsePrefix("127.0.0.1/8"), "lo"},
			{netip.MustParsePrefix("192.168.7.1/24"), "wan0"},
			{netip.MustParsePrefix("2001:db8:1::1/64"), "lan0"},
			{netip.MustParsePrefix("100.64.0.1/32"), "nat64"},
		},
		routes: []hostPrefix{
			{netip.MustParsePrefix("192.168.7.0/24"), "wan0"},
			{netip.MustParsePrefix("10.0.0.0/8"), "wan0"},
			{netip.MustParsePrefix("172.16.5.0/24"), "wan0"},
			{netip.MustParsePrefix("100.64.0.0/16"), "nat64"},
		},
		routes6: []hostPrefix{{netip.MustParsePrefix("::/0"), "wan0"}, {netip.MustParsePrefix("2001:db8:64::/96"), "wan0"}},
	}
	for _, tc := range []struct{ name, text, refused, warned string }{
		{name: "all is there", text: "inside = [\"lan0\"]\noutside = [\"wan0\"]"},
		{name: "no such interface inside", text: "inside = [\"lan0\", \"lan9\"]",
			refused: `t.toml:2:19: nat64.inside: there is no interface "lan9" on this host; allowed: lan0, wan0`},
		{name: "no such interface outside", text: "inside = [\"lan0\"]\noutside = [\"wan1\"]",
			refused: `t.toml:3:12: nat64.outside: there is no interface "wan1"`},
		{name: "no such interface to advertise on, named once", text: "[advertise]\ninterfaces = [\"lan7\"]",
			refused: `t.toml:3:15: advertise.interfaces: there is no interface "lan7"`},
		{name: "the TUN is another interface", text: "inside = [\"lan0\"]\ntun = \"wan0\"\npool = \"10.64.0.0/16\"",
			refused: `t.toml:3:7: nat64.tun: "wan0" is another interface of this host; allowed: a name that no interface has`},
		{name: "the pool contains a network of a link", text: "inside = [\"lan0\"]\npool = \"192.168.0.0/16\"",
			refused: `t.toml:3:8: nat64.pool: "192.168.0.0/16" overlaps the network of 192.168.7.1/24 on wan0`},
		{name: "the pool is part of a network of a link", text: "inside = [\"lan0\"]\npool = \"192.168.7.128/28\"",
			refused: `overlaps the network of 192.168.7.1/24 on wan0`},
		{name: "a route leads into the pool", text: "inside = [\"lan0\"]\npool = \"172.16.0.0/16\"",
			refused: `overlaps the route to 172.16.5.0/24 by wan0`},
		{name: "the pool is more specific than a route", text: "inside = [\"lan0\"]\npool = \"10.64.0.0/16\""},
		{name: "a route leads to the prefix", text: "inside = [\"lan0\"]\nprefix = \"2001:db8:64::/96\"",
			refused: `t.toml:3:10: nat64.prefix: "2001:db8:64::/96" has a route on this host already, by wan0`},
		{name: "a route leads to more than the prefix", text: "inside = [\"lan0\"]\nprefix = \"2001:db8:64:1::/96\""},
		{name: "DNS64 listens at an address that is not there", text: "inside = [\"lan0\"]\n[dns64]\nlisten = [\"[2001:db8:1::1]:53\", \"[2001:db8:9::1]:53\"]",
			warned: `t.toml:4:33: dns64.listen: "2001:db8:9::1" is not an address of this host`},
		{name: "a hosts file that is not there", text: "inside = [\"lan0\"]\n[[dns64.zone]]\nname = \"poc.vpn\"\nhosts = \"/nonexistent/hosts\"", warned: "DNS64 is off",
			refused: `t.toml:3:9: dns64.zone: cannot read the hosts file: open /nonexistent/hosts: no such file or directory`},
		{name: "a forward of an address that is not there", text: "inside = [\"lan0\"]\n[[nat64.forward]]\noutside = \"203.0.113.1:80/tcp\"\ninside = \"[2001:db8:1::5]:80\"",
			warned: `t.toml:3:9: nat64.forward: "203.0.113.1" is not an address of this host`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := config.ParseGateway("t.toml", []byte("[nat64]\n"+tc.text))
			if err != nil {
				t.Fatal(err)
			}
			host.check(f)
			var refused string
			if err := f.Err(); err != nil {
				refused = err.Error()
			}
			if !strings.Contains(refused, tc.refused) || (tc.refused == "") != (refused == "") || strings.Contains(refused, "\n") {
				t.Errorf("refused %q, want %q", refused, tc.refused)
			}
			var warned []string
			for _, w := range f.Warnings {
				warned = append(warned, w.String())
			}
			if got := strings.Join(warned, "\n"); !strings.Contains(got, tc.warned) || (tc.warned == "") != (got == "") {
				t.Errorf("warned %q, want %q", got, tc.warned)
			}
		})
	}
}

func TestObserveHost(t *testing.T) {
	v, err := observeHost()
	if err != nil {
		t.Fatal(err)
	}
	if len(v.links) == 0 {
		t.Error("the host has no interfaces")
	}
}

func TestBadConfigurationEndsWithStatus2(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"file":    {"[nat64]\ninside = [\"lan0\"]\npool = \"100.64.0.0/31\"\n", "gateway.toml:3:8: nat64.pool:"},
		"host":    {"[nat64]\ninside = [\"no-such-link0\"]\n", "gateway.toml:2:11: nat64.inside: there is no interface"},
		"nothing": {"", "gateway.toml: nat64.inside: no interface of IPv6-only hosts is named"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "gateway.toml")
			if err := os.WriteFile(path, []byte(tc.text), 0o644); err != nil {
				t.Fatal(err)
			}
			stderr, err := os.Create(filepath.Join(dir, "stderr"))
			if err != nil {
				t.Fatal(err)
			}
			defer stderr.Close()
			if status := run(t.Context(), []string{"-config", path}, io.Discard, stderr); status != say.StatusUsage {
				t.Errorf("status %d", status)
			}
			if said, _ := os.ReadFile(stderr.Name()); !strings.Contains(string(said), tc.want) {
				t.Errorf("%q is missing in\n%s", tc.want, said)
			}
		})
	}
}
