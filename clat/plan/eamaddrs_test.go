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

// A mapping on the uplink's network is answered for, or there is a warning that
// says why not. Nobody is told of a mapping of the IPv4 internet.
func TestEAMOnLink(t *testing.T) {
	uplink := Link{Index: 1, Name: "wlan0"}
	prefix := netip.MustParsePrefix
	for _, c := range []struct {
		name, ipv4, ipv6 string
		addrs            []Addr
		routes           []OnLink
		answered, warned bool
	}{
		{name: "an address of the host", ipv4: "192.0.2.33/32", ipv6: "2001:db8:1::e33/128", addrs: []Addr{{Link: 2, Prefix: prefix("192.0.2.33/32")}}, answered: true},
		{name: "in a network behind it", ipv4: "192.0.2.33/32", ipv6: "2001:db8:1::e33/128", addrs: []Addr{{Link: 3, Prefix: prefix("192.0.2.33/24")}}, answered: true},
		{name: "a host behind it", ipv4: "192.0.2.34/32", ipv6: "2001:db8:1::e34/128", addrs: []Addr{{Link: 3, Prefix: prefix("192.0.2.33/24")}}, warned: true},
		{name: "a host behind it, by a route", ipv4: "192.0.2.34/32", ipv6: "2001:db8:1::e34/128", routes: []OnLink{{3, prefix("192.0.2.34/32")}}, warned: true},
		{name: "a network behind it", ipv4: "192.0.2.0/28", ipv6: "2001:db8:1::e00/124", addrs: []Addr{{Link: 3, Prefix: prefix("192.0.2.33/24")}}, warned: true},
		{name: "a network behind it, by a route", ipv4: "192.0.2.0/24", ipv6: "2001:db8:1::e00/120", routes: []OnLink{{3, prefix("192.0.2.34/32")}}, warned: true},
		{name: "a network with the host in it", ipv4: "192.0.2.0/24", ipv6: "2001:db8:1::e00/120", addrs: []Addr{{Link: 3, Prefix: prefix("192.0.2.33/24")}}, answered: true, warned: true},
		{name: "another network of IPv6", ipv4: "192.0.2.34/32", ipv6: "2001:db8:2::e34/128", addrs: []Addr{{Link: 3, Prefix: prefix("192.0.2.33/24")}}},
		{name: "the internet", ipv4: "192.0.2.34/32", ipv6: "2001:db8:1::e34/128"},
		{name: "an interface of ours", ipv4: "192.0.2.34/32", ipv6: "2001:db8:1::e34/128", routes: []OnLink{{4, prefix("192.0.2.34/32")}}},
		{name: "a part of a default route", ipv4: "192.0.2.34/32", ipv6: "2001:db8:1::e34/128", routes: []OnLink{{3, prefix("128.0.0.0/1")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Observed{
				Links:   []Link{uplink, {Index: 2, Name: "lo"}, {Index: 3, Name: "veth0"}, {Index: 4, Name: "clat0", Alias: AliasPrefix}},
				Addrs:   append([]Addr{{Link: 1, Prefix: prefix("2001:db8:1::10/64")}, {Link: 1, Prefix: prefix("203.0.113.5/24")}}, c.addrs...),
				OnLink4: c.routes,
			}
			m := siit.Mapping{EAM: []siit.EAM{{IPv4: prefix(c.ipv4), IPv6: prefix(c.ipv6)}}}
			addrs, warnings := eamAddrs(o, uplink, m)
			if len(addrs) > 0 != c.answered {
				t.Errorf("answered for %v", addrs)
			}
			if len(warnings) > 0 != c.warned || c.warned && warnings[0].Kind != EAMNetworkOnLink {
				t.Errorf("warnings %v", warnings)
			}
		})
	}
}
