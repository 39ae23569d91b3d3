package doctor

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tnat64d/pref64"
)

// One router's advertisement as both sources tell it, and a second router that
// is no way out and advertises what cannot be used.
func TestAdd(t *testing.T) {
	second := netip.MustParseAddr("fe80::2")
	bad := netip.MustParsePrefix("2001:db8:1::/96")
	own := []netip.Prefix{netip.MustParsePrefix("2001:db8:9::9/128")}
	observed := func(p netip.Prefix, from netip.Addr) []pref64.Observation {
		return []pref64.Observation{{Prefix: p, Origin: pref64.RA, Router: from}}
	}
	var ra RA
	for _, r := range []pref64.Report{
		{Observations: observed(wkp, router)}, // as the kernel passes it on
		{
			Observations: observed(wkp, router),
			Resolvers:    []pref64.Resolver{{Addr: resolver, Router: router}, {Addr: netip.MustParseAddr("2001:db8::54"), Router: router, Withdrawn: true}},
			RA: &pref64.RouterAdvertisement{Router: router, RouterLifetime: time.Hour, Prefixes: []pref64.PrefixInfo{
				{Prefix: laptop.Masked(), OnLink: true, Autonomous: true, Valid: time.Hour},
				{Prefix: netip.MustParsePrefix("2001:db8:2::/64"), OnLink: true, Valid: time.Hour},
				{Prefix: netip.MustParsePrefix("2001:db8:3::/64"), Autonomous: true},
			}},
		},
		{
			Observations: observed(bad, second),
			RA: &pref64.RouterAdvertisement{Router: second, Prefixes: []pref64.PrefixInfo{
				{Prefix: laptop.Masked(), OnLink: true, Autonomous: true, Valid: time.Hour}}},
			Ignored: []pref64.Ignored{{Reason: pref64.BadPLC, Router: second}, {Reason: pref64.BadLength, Router: second}},
		},
		{Observations: observed(netip.MustParsePrefix("2001:db8:9::/96"), second)},
		{Ignored: []pref64.Ignored{{Reason: pref64.HopLimit, Router: second}, {Reason: pref64.NotLinkLocal}}},
		{Observations: []pref64.Observation{{Prefix: nsp, Router: second, Withdrawn: true}}},
	} {
		ra.add(r, own)
	}
	want := RA{
		Routers: []Router{
			{Address: router, Default: true, PREF64: []netip.Prefix{wkp}, SLAAC: []netip.Prefix{laptop.Masked()}, Resolvers: []netip.Addr{resolver}},
			{Address: second, PREF64: []netip.Prefix{bad, netip.MustParsePrefix("2001:db8:9::/96")}, SLAAC: []netip.Prefix{laptop.Masked()}},
		},
		Refused: []Refused{
			{Why: pref64.BadPLC.Explanation()},
			{Prefix: bad, Why: "it overlaps a prefix of the link itself"},
			{Prefix: netip.MustParsePrefix("2001:db8:9::/96"), Why: "it overlaps an address of this host"},
		},
	}
	if diff := cmp.Diff(want, ra, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
