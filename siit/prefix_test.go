package siit

import (
	"net/netip"
	"testing"
)

// The table of RFC 6052 section 2.4.
func TestPrefixEmbedsAsInRFC6052(t *testing.T) {
	for _, c := range []struct{ prefix, v4, v6 string }{
		{"2001:db8::/32", "192.0.2.33", "2001:db8:c000:221::"},
		{"2001:db8:100::/40", "192.0.2.33", "2001:db8:1c0:2:21::"},
		{"2001:db8:122::/48", "192.0.2.33", "2001:db8:122:c000:2:2100::"},
		{"2001:db8:122:300::/56", "192.0.2.33", "2001:db8:122:3c0:0:221::"},
		{"2001:db8:122:344::/64", "192.0.2.33", "2001:db8:122:344:c0:2:2100::"},
		{"2001:db8:122:344::/96", "192.0.2.33", "2001:db8:122:344::192.0.2.33"},
		{"64:ff9b::/96", "192.0.2.33", "64:ff9b::192.0.2.33"},
	} {
		p, err := NewPrefix(netip.MustParsePrefix(c.prefix))
		if err != nil {
			t.Fatal(err)
		}
		v4, v6 := netip.MustParseAddr(c.v4), netip.MustParseAddr(c.v6)
		if got := p.Embed(v4); got != v6 {
			t.Errorf("%s in %s is %s, want %s", c.v4, c.prefix, got, v6)
		}
		if got, ok := p.Extract(v6); !ok || got != v4 {
			t.Errorf("%s of %s is %s, %v, want %s", c.v6, c.prefix, got, ok, c.v4)
		}
		for _, outside := range []string{"2001:db9::1", "192.0.2.33", "::ffff:192.0.2.33"} {
			if got, ok := p.Extract(netip.MustParseAddr(outside)); ok {
				t.Errorf("%s is in %s as %s", outside, c.prefix, got)
			}
		}
	}
	for _, bad := range []string{"2001:db8::/33", "192.0.2.0/24", "::ffff:0:0/96"} {
		if _, err := NewPrefix(netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("%s is taken for a PREF64", bad)
		}
	}
}
