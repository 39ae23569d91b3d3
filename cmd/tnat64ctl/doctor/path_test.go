package doctor

import (
	"net/netip"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"198.51.100.7":           "198.51.100.7:0",
		"198.51.100.7:443":       "198.51.100.7:443",
		"::ffff:198.51.100.7":    "198.51.100.7:0",
		"[::ffff:203.0.113.9]:7": "203.0.113.9:7",
		"10.0.0.1":               "10.0.0.1:0", // behind a NAT64 of one's own
		"198.51.100.7:0":         "",
		"198.51.100.7:https":     "",
		"198.51.100.7:65536":     "",
		"2001:db8::1":            "",
		"192.0.0.170":            "", // RFC 7050 section 5.2
		"192.0.0.171:80":         "",
		"192.0.0.1":              "",
		"127.0.0.1:80":           "",
		"0.0.0.0":                "",
		"224.0.0.1":              "",
		"169.254.1.1":            "",
		"255.255.255.255":        "",
		"":                       "",
	} {
		got := ""
		if target, err := ParseTarget(t.Context(), text); err == nil {
			got = netip.AddrPortFrom(target.Address, target.Port).String()
		}
		if got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// Addresses of RFC 6052 section 2.4.
func TestSynthesize(t *testing.T) {
	for prefix, want := range map[string]string{
		"2001:db8::/32":          "2001:db8:c000:221::",
		"2001:db8:100::/40":      "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":      "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56":  "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64":  "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96":  "2001:db8:122:344::192.0.2.33",
		"64:ff9b::/96":           "64:ff9b::192.0.2.33",
		"2001:db8:122:344::9/64": "2001:db8:122:344:c0:2:2100::",
	} {
		if got := synthesize(netip.MustParsePrefix(prefix), netip.MustParseAddr("192.0.2.33")); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}
