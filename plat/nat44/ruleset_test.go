package nat44

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var pool = netip.MustParsePrefix("100.64.0.0/16")

func config(mode Mode) Config {
	return Config{
		TUN: "nat64", Inside: []string{"lan0"}, Outside: []string{"wan0"}, Pool: pool, Mode: mode,
		Addresses:      []Range{{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")}},
		PortsPerClient: 2000, ConnectionsPerClient: 100,
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

func TestRuleset(t *testing.T) {
	if os.Getuid() != 0 {
		const why = "needs root: makes a network namespace"
		if os.Getenv("TNAT64_REQUIRE_PRIVILEGED") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	list := func() string {
		out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
		if err != nil {
			t.Skipf("needs the program nft: %v", err)
		}
		return string(out)
	}
	s, err := New(config(Masquerade))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	shared := config(Pool)
	shared.PortsPerClient = 0
	for _, step := range []struct {
		config       Config
		wants, never []string
	}{
		{config(Masquerade), []string{"masquerade", "dnat to 100.64.0.2:443", "ct count over 100", "established : 7440"}, []string{"snat"}},
		{config(Pool), []string{"map ports"}, []string{"masquerade"}},
		{shared, []string{"map addresses"}, []string{"masquerade", "map ports"}},
		{config(None), []string{"not-outside"}, []string{"masquerade", "map "}},
		{config(Masquerade), []string{"masquerade"}, []string{"map "}},
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
	if c, err := s.Counters(); err != nil || len(c) != 3 {
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
