package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestUsage is refused before anything is touched.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		words  string
	}{
		{"", 2, "say demo"},
		{"dance", 2, `unknown command "dance"`},
		{"demo now", 2, `unexpected argument "now"`},
		{"demo -network moon", 2, `there is no network "moon", but slaac, dhcpv6-only, cloud, static, bridge, bond, vlan, ppp, noarp, raw-ip, wireguard, gre, delegated`},
		{"demo -mtu", 2, "flag needs an argument"},
		{"demo -mtu 1000", 2, "MTU 1000 of the link laptop - router is not between 1280 and 65535"},
		{"shell -mtu-isp x", 2, "invalid value"},
		{"demo -pref64 2001:db8::/32", 2, "overlaps"},
		{"demo -pref64 /33", 2, "length 33 is not one of"},
		{"demo -pref64 192.0.2.0/24", 2, "not an IPv6 prefix"},
		{"demo -tnat64d /nonexistent/tnat64d", 1, "hint: -tnat64d wants the path"},
		{"help", 0, ""},
		{"demo -h", 0, ""},
		{"ipv4-only ping ::1", 1, "not an IPv4 address"},
	} {
		var out, errs bytes.Buffer
		if status := run(t.Context(), strings.Fields(c.args), &out, &errs); status != c.status {
			t.Errorf("%q: exit status %d, not %d", c.args, status, c.status)
		}
		if !strings.Contains(errs.String(), c.words) {
			t.Errorf("%q: %q is missing in %q", c.args, c.words, errs.String())
		}
		if c.status == 0 && out.String() != usage {
			t.Errorf("%q does not print the usage", c.args)
		}
	}
}
