package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tnat64d/internal/config"
	"tnat64d/plat/advertise"
)

func TestAnnouncement(t *testing.T) {
	f, err := config.ParseGateway("t.toml", []byte(`
[nat64]
prefix = "2001:db8:64::/96"
[dns64]
listen = ["[2001:db8:1::1]:53", "[2001:db8:1::1]:5353", "fe80::1%lan0"]
[advertise]
interfaces = ["lan0"]
prefix = "2001:db8:1::/64"
lifetime = "10m"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := advertise.Parameters{
		Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::/64")},
		PREF64:   []netip.Prefix{netip.MustParsePrefix("2001:db8:64::/96")},
		RDNSS:    []netip.Addr{netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("fe80::1%lan0")},
		Lifetime: 10 * time.Minute,
	}
	equal := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	if d := cmp.Diff(want, announcement(f.Gateway), equal); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	f.Gateway.Advertise.RDNSS = []netip.Addr{netip.MustParseAddr("2001:db8::53")}
	if got := announcement(f.Gateway).RDNSS; len(got) != 1 || got[0] != f.Gateway.Advertise.RDNSS[0] {
		t.Errorf("configured resolvers: %v", got)
	}
}
