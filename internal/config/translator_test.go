package config

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tnat64d/siit"
)

func TestTranslator(t *testing.T) {
	c, _, err := Parse("t.toml", []byte(`
[translation]
lowest-ipv6-mtu = 1300
tos = "zero"
udp-zero-checksum = "drop"
wkp-private = "drop"
icmp-source = "192.0.0.3"
node-id = false
[[translation.eam]]
ipv4 = "192.0.2.0/28"
ipv6 = "2001:db8:cccc::/124"
`))
	if err != nil {
		t.Fatal(err)
	}
	pref64 := netip.MustParsePrefix("64:ff9b::/96")
	pair := siit.Pair{IPv4: netip.MustParseAddr("192.0.0.1"), IPv6: netip.MustParseAddr("2001:db8::1")}
	got := c.Translator(pref64, pair, 1480)
	want := siit.Config{
		Mapping: siit.Mapping{
			PREF64: pref64,
			CLAT:   pair,
			EAM:    []siit.EAM{{IPv4: netip.MustParsePrefix("192.0.2.0/28"), IPv6: netip.MustParsePrefix("2001:db8:cccc::/124")}},
		},
		MTU6: 1500, MTU4: 1480, LowestIPv6MTU: 1300,
		ICMPSource4: netip.MustParseAddr("192.0.0.3"), ICMPSource6: pair.IPv6,
		ZeroTOS: true, DropUDPZeroChecksum: true, DropWKPPrivate: true,
	}
	if d := cmp.Diff(want, got, cmpNetip); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if _, err := siit.New(got); err != nil {
		t.Errorf("siit.New: %v", err)
	}
}

func TestTranslatorToBeFilledIn(t *testing.T) {
	got := Default().Translator(netip.Prefix{}, siit.Pair{}, 0)
	want := siit.Config{LowestIPv6MTU: 1280, ICMPSource4: netip.MustParseAddr("192.0.0.2"), NodeID: true, Mapping: siit.Mapping{EAM: []siit.EAM{}}}
	if d := cmp.Diff(want, got, cmpNetip); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// The source of our own errors is never the CLAT's address.
func TestICMPSourceAvoidsCLAT(t *testing.T) {
	for _, tc := range []struct{ source, clat, want string }{
		{"192.0.0.2", "192.0.0.1", "192.0.0.2"},
		{"192.0.0.2", "192.0.0.2", "192.0.0.3"},
		{"192.0.0.7", "192.0.0.7", "192.0.0.6"},
	} {
		c := Default()
		c.Translation.ICMPSource = netip.MustParseAddr(tc.source)
		pair := siit.Pair{IPv4: netip.MustParseAddr(tc.clat), IPv6: netip.MustParseAddr("2001:db8::1")}
		got := c.Translator(netip.MustParsePrefix("64:ff9b::/96"), pair, 1480).ICMPSource4
		if got.String() != tc.want {
			t.Errorf("source %s, CLAT %s: %s, want %s", tc.source, tc.clat, got, tc.want)
		}
	}
}

func TestQueueCount(t *testing.T) {
	for _, tc := range []struct{ queues, cpus, want int }{{0, 1, 1}, {0, 2, 2}, {0, 64, 4}, {7, 2, 7}, {1, 64, 1}} {
		if got := (CLAT{Queues: tc.queues}).QueueCount(tc.cpus); got != tc.want {
			t.Errorf("queues = %d on %d CPUs: %d, want %d", tc.queues, tc.cpus, got, tc.want)
		}
	}
}
