package plan_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tnat64d/clat/plan"
	"tnat64d/clat/plan/plantest"
)

// TestSourcesRefused is which IPv4 networks no packet from the PLAT may come from.
func TestSourcesRefused(t *testing.T) {
	const host = `
		link 2 wlan0
		link 3 eth1
		link 4 wg0 kind wireguard
		link 5 clat0 ours
		addr wlan0 2001:db8:2::10/64
		route6 default dev wlan0
		pref64 wlan0 64:ff9b::/96
	`
	for _, c := range []struct{ name, given, local, routed string }{
		{"none", "", "[]", "[]"},
		{"on a link", "onlink4 eth1 203.0.113.0/28\nonlink4 eth1 10.9.0.0/16", "[10.9.0.0/16 203.0.113.0/28]", "[]"},
		{"of a VPN", "onlink4 wg0 10.8.0.0/24\nonlink4 wg0 100.64.0.0/10", "[10.8.0.0/24 100.64.0.0/10]", "[]"},
		{"a VPN that has all but the home network", "onlink4 wg0 11.0.0.0/8\nonlink4 wg0 172.32.0.0/11\nonlink4 wg0 193.0.0.0/8\nonlink4 wg0 0.0.0.0/1", "[]", "[]"},
		{"an address of a VPN's network", "addr wg0 198.51.100.7/24", "[198.51.100.0/24]", "[]"},
		{"behind a router", "routed4 eth1 10.5.0.0/16\nrouted4 wlan0 192.168.7.0/24", "[]", "[10.5.0.0/16 192.168.7.0/24]"},
		{"behind two routers", "routed4 eth1 10.5.0.0/16\nrouted4 wlan0 10.5.0.0/16", "[]", "[10.5.0.0/16]"},
		{"through a CLAT", "routed4 clat0 10.5.0.0/16\nrouted4 eth1 10.6.0.0/16", "[]", "[10.6.0.0/16]"},
		{"also through a CLAT", "routed4 eth1 10.5.0.0/16\nrouted4 clat0 10.5.0.0/16", "[]", "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, conf, err := plantest.Parse(host + c.given)
			if err != nil {
				t.Fatal(err)
			}
			p := plan.Make(o, conf)
			if len(p.Uplinks) != 1 || p.Uplinks[0].CLAT == nil {
				t.Fatalf("there is no CLAT: %+v", p)
			}
			got := p.Uplinks[0].CLAT.Translation
			if diff := cmp.Diff(c.local+c.routed, fmt.Sprint(got.LocalIPv4)+fmt.Sprint(got.RoutedIPv4)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
