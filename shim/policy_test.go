package shim

import (
	"net/netip"
	"testing"
)

func policyTable(t *testing.T, p Policy) *table {
	t.Helper()
	tab, err := p.prepare()
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

var everything = netip.MustParsePrefix("0.0.0.0/0")

func testPolicy() Policy {
	return Policy{
		Routes: []Route{
			{everything, netip.MustParsePrefix("64:ff9b::/96")},
			{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:64::/96")},
			{netip.MustParsePrefix("203.0.113.0/24"), netip.Prefix{}},
		},
		Local: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")},
	}
}

func TestDecide(t *testing.T) {
	type known map[string]bool
	for _, c := range []struct {
		name     string
		to       string
		fallback Fallback
		ipv4     bool
		noIPv6   bool
		memory   known
		want     Decision
		why      Why
	}{
		{"global", "192.0.2.1", FallbackAuto, false, false, nil, Translate, WhyPREF64},
		{"private, through the well-known prefix", "10.1.2.3", FallbackAuto, false, false, nil, Translate, WhyPREF64},
		{"private with a route", "10.1.2.3", FallbackAuto, true, false, nil, Native, WhyRouted},
		{"local by configuration", "192.168.1.1", FallbackNever, false, false, nil, Native, WhyLocal},
		{"loopback", "127.0.0.53", FallbackNever, false, false, nil, Native, WhyLoopback},
		{"link-local", "169.254.169.254", FallbackNever, false, false, nil, Native, WhyLinkLocal},
		{"multicast", "239.255.255.250", FallbackNever, false, false, nil, Native, WhyMulticast},
		{"broadcast", "255.255.255.255", FallbackNever, false, false, nil, Native, WhyBroadcast},
		{"unspecified", "0.0.0.0", FallbackNever, false, false, nil, Native, WhyUnspecified},
		{"network without prefix", "203.0.113.9", FallbackAuto, false, false, nil, NoPrefix, WhyNoPREF64},
		{"network without prefix but with IPv4", "203.0.113.9", FallbackAuto, true, false, nil, Native, WhyRouted},
		{"IPv4 has a route, never", "192.0.2.1", FallbackNever, true, false, nil, Translate, WhyPREF64},
		{"IPv4 first", "192.0.2.1", FallbackFirst, true, false, nil, Native, WhyFirst},
		{"IPv4 first without a route", "192.0.2.1", FallbackFirst, false, false, nil, Translate, WhyPREF64},
		{"IPv4 first failed before", "192.0.2.1", FallbackFirst, true, false, known{"192.0.2.1": false}, Translate, WhyPREF64},
		{"NAT64 failed before", "192.0.2.1", FallbackAuto, true, false, known{"192.0.2.1": true}, Native, WhyRemembered},
		{"another one failed before", "192.0.2.2", FallbackAuto, false, false, known{"192.0.2.1": true}, Translate, WhyPREF64},
		{"no IPv6 either", "192.0.2.1", FallbackAuto, false, true, nil, Translate, WhyNoIPv6},
	} {
		p := testPolicy()
		p.Fallback = c.fallback
		got, why := policyTable(t, p).decide(netip.MustParseAddr(c.to), facts{
			ipv4: func(netip.Addr) bool { return c.ipv4 },
			ipv6: func(netip.Addr) bool { return !c.noIPv6 },
			remembered: func(a netip.Addr) (bool, bool) {
				v, ok := c.memory[a.String()]
				return v, ok
			},
		})
		if got != c.want || why != c.why {
			t.Errorf("%s: %d because %s, want %d because %s", c.name, got, why, c.want, c.why)
		}
	}
}

func TestLongestNetworkWins(t *testing.T) {
	tab := policyTable(t, testPolicy())
	for _, c := range []struct{ v4, v6 string }{
		{"192.0.2.1", "64:ff9b::192.0.2.1"},
		{"198.51.100.7", "2001:db8:64::198.51.100.7"},
		{"203.0.113.9", ""},
	} {
		got, ok := tab.embed(netip.MustParseAddr(c.v4))
		if !ok {
			if c.v6 != "" {
				t.Errorf("%s has no prefix", c.v4)
			}
			continue
		}
		if got != netip.MustParseAddr(c.v6) {
			t.Errorf("%s is %s, want %s", c.v4, got, c.v6)
		}
		if back, ok := tab.extract(got); !ok || back.String() != c.v4 {
			t.Errorf("%s stands for %s, want %s", got, back, c.v4)
		}
	}
	// The shorter network's prefix does not stand for an address of the longer.
	if a, ok := tab.extract(netip.MustParseAddr("64:ff9b::198.51.100.7")); ok {
		t.Errorf("taken for %s", a)
	}
}

func TestPolicyRefusesWrongPrefixes(t *testing.T) {
	for _, r := range []Route{
		{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("64:ff9b::/96")},
		{netip.Prefix{}, netip.MustParsePrefix("64:ff9b::/96")},
		{everything, netip.MustParsePrefix("64:ff9b::/97")},
	} {
		if _, err := (Policy{Routes: []Route{r}}).prepare(); err == nil {
			t.Errorf("%v is accepted", r)
		}
	}
}

func TestEveryWhyHasWords(t *testing.T) {
	seen := map[string]bool{}
	for w := range numWhys {
		if w.String() == "" || w.Sentence() == "" || seen[w.String()] {
			t.Errorf("%d: %q, %q", w, w, w.Sentence())
		}
		seen[w.String()] = true
	}
}
