package plan

import (
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// TestEAMIPv6 has the examples of RFC 7757 section 3.2.
func TestEAMIPv6(t *testing.T) {
	eam := []siit.EAM{
		{IPv4: netip.MustParsePrefix("192.0.2.1/32"), IPv6: netip.MustParsePrefix("2001:db8:aaaa::/128")},
		{IPv4: netip.MustParsePrefix("192.0.2.2/32"), IPv6: netip.MustParsePrefix("2001:db8:bbbb::b/128")},
		{IPv4: netip.MustParsePrefix("192.0.2.16/28"), IPv6: netip.MustParsePrefix("2001:db8:cccc::/124")},
		{IPv4: netip.MustParsePrefix("192.0.2.128/26"), IPv6: netip.MustParsePrefix("2001:db8:dddd::/64")},
		{IPv4: netip.MustParsePrefix("192.0.2.192/29"), IPv6: netip.MustParsePrefix("2001:db8:eeee:8::/62")},
		{IPv4: netip.MustParsePrefix("192.0.2.224/31"), IPv6: netip.MustParsePrefix("64:ff9b::/127")},
	}
	for v4, want := range map[string]string{
		"192.0.2.1": "2001:db8:aaaa::", "192.0.2.2": "2001:db8:bbbb::b", "192.0.2.16": "2001:db8:cccc::", "192.0.2.24": "2001:db8:cccc::8",
		"192.0.2.31": "2001:db8:cccc::f", "192.0.2.128": "2001:db8:dddd::", "192.0.2.152": "2001:db8:dddd:0:6000::",
		"192.0.2.183": "2001:db8:dddd:0:dc00::", "192.0.2.192": "2001:db8:eeee:8::", "192.0.2.195": "2001:db8:eeee:9:8000::",
		"192.0.2.224": "64:ff9b::", "192.0.2.225": "64:ff9b::1",
	} {
		if got, ok := eamIPv6(eam, netip.MustParseAddr(v4)); !ok || got != netip.MustParseAddr(want) {
			t.Errorf("%s stands for %s, %t, want %s", v4, got, ok, want)
		}
	}
	if got, ok := eamIPv6(eam, netip.MustParseAddr("192.0.2.3")); ok {
		t.Errorf("192.0.2.3 stands for %s", got)
	}
}
