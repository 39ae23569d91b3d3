package plat

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestSetUpRouteExists sets up a TUN where the host has routes that would keep packets
// from it. Later calls find the TUN's own.
func TestSetUpRouteExists(t *testing.T) {
	for _, c := range []struct {
		name, commands string
		want           error
	}{
		{"none", "", nil},
		{"worse metric", "route add 64:ff9b::/96 dev wan0 metric 2048", nil},
		{"the prefix", "route add 64:ff9b::/96 dev wan0", ErrRouteExists},
		{"the prefix, unreachable", "route add unreachable 64:ff9b::/96", ErrRouteExists},
		{"the pool", "route add 100.64.0.0/16 dev wan0", ErrRouteExists},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := enterNetns(t)
			ip(t, c.commands)
			l, err := netlink.LinkByName("nat64")
			if err != nil {
				t.Fatal(err)
			}
			conf := Config{TUN: "nat64", Prefix: netip.MustParsePrefix("64:ff9b::/96"), Pool: netip.MustParsePrefix("100.64.0.0/16")}
			if err := setUp(h, l.Attrs().Index, conf); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if c.want != nil {
				return
			}
			if err := setUp(h, l.Attrs().Index, conf); err != nil {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

func TestBroadcast(t *testing.T) {
	for network, want := range map[string]string{
		"203.0.113.1/24": "203.0.113.255", "203.0.113.1/30": "203.0.113.3", "10.1.2.3/9": "10.127.255.255", "10.1.2.3/0": "255.255.255.255",
		"203.0.113.1/31": "<nil>", "203.0.113.1/32": "<nil>", "2001:db8::1/64": "<nil>",
	} {
		ip, n, err := net.ParseCIDR(network)
		if err != nil {
			t.Fatal(err)
		}
		n.IP = ip
		if got := broadcast(n).String(); got != want {
			t.Errorf("%s: %s, want %s", network, got, want)
		}
	}
}
