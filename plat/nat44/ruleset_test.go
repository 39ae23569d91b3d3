package nat44

import (
	"math"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tnat64d/internal/needs"
)

var pool = netip.MustParsePrefix("100.64.0.0/16")

func config(mode Mode) Config {
	return Config{
		Prefix: netip.MustParsePrefix("2001:db8:64::/96"), Static: []netip.Addr{netip.MustParseAddr("100.64.0.9")},
		TUN: "nat64", Inside: []string{"lan0"}, Outside: []string{"wan0"}, Pool: pool, Mode: mode,
		Addresses:      []Range{{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")}},
		PortsPerClient: 2000, ConnectionsPerClient: 100, ConnectionsPer64: 1000,
		Forwards: []Forward{{unix.IPPROTO_TCP, netip.MustParseAddrPort("203.0.113.1:8443"), netip.MustParseAddrPort("100.64.0.2:443")}},
	}
}

func TestPorts(t *testing.T) {
	c := config(Pool)
	if n := c.Clients(); n != 64 {
		t.Errorf("%d clients, want 32 on each address", n)
	}
	type share struct {
		outside     string
		first, last uint16
	}
	for a, want := range map[string]share{
		"100.64.0.2":  {"203.0.113.1", 1024, 3023},
		"100.64.0.3":  {"203.0.113.1", 3024, 5023},
		"100.64.0.33": {"203.0.113.1", 63024, 65023},
		"100.64.0.34": {"203.0.113.2", 1024, 3023},
		"100.64.0.65": {"203.0.113.2", 63024, 65023},
	} {
		outside, first, last, ok := c.Ports(netip.MustParseAddr(a))
		if got := (share{outside.String(), first, last}); !ok || got != want {
			t.Errorf("%s has %v, want %v", a, got, want)
		}
	}
	for _, a := range []string{"100.64.0.0", "100.64.0.1", "100.64.0.66", "100.65.0.2"} {
		if outside, first, _, ok := c.Ports(netip.MustParseAddr(a)); ok {
			t.Errorf("%s has %s from %d", a, outside, first)
		}
	}
	if n := config(Masquerade).Clients(); n != 0 {
		t.Errorf("masquerading allows %d clients", n)
	}
}

// TestRanges counts addresses over the borders of ranges.
func TestRanges(t *testing.T) {
	a := netip.MustParseAddr
	ranges := []Range{{a("203.0.113.1"), a("203.0.113.2")}, {a("192.0.2.9"), a("192.0.2.9")}, {a("198.51.100.255"), a("198.51.101.1")}}
	var all []string
	for i := range count(ranges) {
		all = append(all, at(ranges, i).String())
	}
	if got, want := strings.Join(all, " "), "203.0.113.1 203.0.113.2 192.0.2.9 198.51.100.255 198.51.101.0 198.51.101.1"; got != want {
		t.Errorf("the addresses are %s, want %s", got, want)
	}
}

// listRules returns what the program nft shows.
func listRules(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skipf("needs the program nft: %v", err)
	}
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("nft cannot list the rules: %v\n%s", err, out)
	}
	return string(out)
}

// TestLargeMaps sets more elements than one netlink attribute has room for.
func TestLargeMaps(t *testing.T) {
	needs.Netns(t)
	fixed := config(Pool)
	fixed.PortsPerClient = 64
	fixed.Addresses = []Range{{netip.MustParseAddr("203.0.113.0"), netip.MustParseAddr("203.0.113.9")}}
	shared := config(Pool)
	shared.PortsPerClient = 0
	shared.Addresses = []Range{{netip.MustParseAddr("192.0.0.0"), netip.MustParseAddr("192.0.39.15")}}
	for i := range 10000 {
		a := at([]Range{{netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("100.64.255.254")}}, i)
		shared.Static = append(shared.Static, a)
		shared.Forwards = append(shared.Forwards, Forward{unix.IPPROTO_UDP, netip.AddrPortFrom(netip.MustParseAddr("192.0.0.1"), uint16(20000+i)), netip.AddrPortFrom(a, 53)})
	}
	s, err := New(fixed)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n := elements(t, s, "ports"); n != 10*1008 {
		t.Errorf("%d clients have ports, want 10080", n)
	}
	if err := s.Set(shared); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"addresses": 10000, "static": 10000, "forwards_udp": 10000} {
		if n := elements(t, s, name); n != want {
			t.Errorf("%s has %d elements, want %d", name, n, want)
		}
	}
	if _, err := New(fixed); err == nil {
		t.Error("two rulesets have the same tables")
	}
	crowd := config(Pool)
	crowd.Static, crowd.Pool, crowd.PortsPerClient = nil, netip.MustParsePrefix("10.0.0.0/8"), 1
	if n := crowd.Clients(); n != 2*64512 {
		t.Errorf("%d clients, want 129024", n)
	}
	if err := s.Set(crowd); err != nil {
		t.Error(err)
	}
	crowd.Addresses = []Range{{netip.MustParseAddr("11.0.0.0"), netip.MustParseAddr("11.255.255.255")}}
	if err := s.Set(crowd); err == nil {
		t.Error("more outside addresses than the kernel can be given are accepted")
	}
}

// elements counts those of a set in the kernel.
func elements(t *testing.T, s *Ruleset, name string) int {
	t.Helper()
	set, err := s.conn.GetSetByName(s.v4, name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	all, err := s.conn.GetSetElements(set)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return len(all)
}

func TestRuleset(t *testing.T) {
	needs.Netns(t)
	list := func() string { return listRules(t) }
	s, err := New(config(Masquerade))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	shared := config(Pool)
	shared.PortsPerClient = 0
	several := config(Pool)
	for _, r := range [][2]string{{"203.0.113.9", "203.0.113.9"}, {"203.0.113.3", "203.0.113.4"}, {"255.255.255.250", "255.255.255.255"}, {"203.0.113.8", "203.0.113.8"}} {
		several.Addresses = append(several.Addresses, Range{netip.MustParseAddr(r[0]), netip.MustParseAddr(r[1])})
	}
	closed := config(Masquerade)
	closed.Outside = nil
	for _, step := range []struct {
		config       Config
		wants, never []string
	}{
		{config(Masquerade), []string{"masquerade", "203.0.113.1 . 8443 : 100.64.0.2 . 443", "ct count over 100 ", "ct count over 250 ", "established : 7440", "elements = { 100.64.0.9 }", "fib saddr . iif oif 0", "snat to ct original ip daddr", "tcp flags rst ct state invalid drop"}, []string{"map ports", "map addresses", "@outside"}},
		{config(Pool), []string{"map ports", "elements = { 203.0.113.1-203.0.113.2 }", "ip daddr @outside iifname \"nat64\" counter name \"to-gateway\" reject", "ip daddr @outside counter name \"unsolicited\" drop"}, []string{"masquerade"}},
		{several, []string{"203.0.113.1-203.0.113.2", "203.0.113.3-203.0.113.4", "203.0.113.8", "203.0.113.9", "255.255.255.250-255.255.255.255"}, nil},
		{shared, []string{"map addresses"}, []string{"masquerade", "map ports"}},
		{config(None), []string{"not-outside", "forged-pool-source"}, []string{"masquerade", "map ports", "ct count", "@static", "tcp flags"}},
		{closed, []string{"iifname \"nat64\" oifname != \"nat64\" counter name \"not-outside\" reject"}, []string{"wan0"}},
		{config(Masquerade), []string{"masquerade"}, []string{"map ports"}},
	} {
		if err := s.Set(step.config); err != nil {
			t.Fatalf("mode %d: %v", step.config.Mode, err)
		}
		rules := list()
		for _, w := range step.wants {
			if !strings.Contains(rules, w) {
				t.Errorf("mode %d: %q is missing in:\n%s", step.config.Mode, w, rules)
			}
		}
		for _, w := range step.never {
			if strings.Contains(rules, w) {
				t.Errorf("mode %d: %q is there:\n%s", step.config.Mode, w, rules)
			}
		}
		if strings.Count(rules, "chain forward") != 2 {
			t.Errorf("rules add up:\n%s", rules)
		}
	}
	if c, err := s.Counters(); err != nil || len(c) != len(counts) {
		t.Errorf("counters: %v, %v", c, err)
	}
	if s.Owned() {
		if err := CleanUp(); err == nil {
			t.Error("the tables of a running process can be removed")
		}
		if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil || !strings.Contains(list(), "masquerade") {
			t.Errorf("another program can flush the rules: %s, %v", out, err)
		}
	}
	if _, err := New(config(Masquerade)); err == nil {
		t.Error("two rulesets have the same tables")
	}
	if err := s.Set(Config{TUN: "nat64", Pool: netip.MustParsePrefix("2001:db8::/64")}); err == nil {
		t.Error("an IPv6 pool is accepted")
	}
	beyond := config(Pool) // 64 clients
	beyond.Static = []netip.Addr{netip.MustParseAddr("100.64.0.66")}
	if err := s.Set(beyond); err == nil {
		t.Error("a static map that has no outside address is accepted")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if rules := list(); rules != "" {
		t.Errorf("left behind:\n%s", rules)
	}
	if err := CleanUp(); err != nil {
		t.Error(err)
	}
}

// TestExtremeLimits sets limits that the kernel's arithmetic must have room for.
func TestExtremeLimits(t *testing.T) {
	needs.Netns(t)
	for _, n := range []int{1, 999, 1000, math.MaxInt32} {
		c := config(Masquerade)
		c.ConnectionsPerClient, c.ConnectionsPer64 = n, n
		s, err := New(c)
		if err != nil {
			t.Errorf("at most %d connections: %v", n, err)
			continue
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
