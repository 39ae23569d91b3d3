package main

import (
	"net/netip"
	"testing"
	"time"

	"tnat64d/internal/config"
)

func TestClients(t *testing.T) {
	now := time.Unix(0, 0)
	prefixes := map[string][]netip.Prefix{"lan0": {netip.MustParsePrefix("2001:db8:1::/64")}}
	c := newClients(config.NAT64{Inside: []string{"lan0"}})
	c.prefixes, c.now = func(link string) []netip.Prefix { return prefixes[link] }, func() time.Time { return now }
	ask := func(want bool, addresses ...string) {
		t.Helper()
		for _, a := range addresses {
			if got := c.mayAsk(netip.MustParseAddr(a)); got != want {
				t.Errorf("%s may ask: %v, want %v", a, got, want)
			}
		}
	}
	ask(true, "2001:db8:1::5", "fe80::5%lan0", "::1", "127.0.0.1")
	ask(false, "2001:db8:2::5", "fe80::5%wan0", "fe80::5", "192.0.2.1", "203.0.113.1")
	// The network renumbers.
	prefixes["lan0"] = []netip.Prefix{netip.MustParsePrefix("2001:db8:2::/64")}
	now = now.Add(clientsInterval)
	ask(true, "2001:db8:2::5")
	ask(false, "2001:db8:1::5")
	// The configuration decides.
	c.named = []netip.Prefix{netip.MustParsePrefix("2001:db8:9::/48")}
	ask(true, "2001:db8:9:7::1", "fe80::5%lan0")
	ask(false, "2001:db8:2::5")
}
