package siit_test

import (
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// TestNetworks has a CLAT whose networks are behind several prefixes: the longest
// network wins, in both directions.
func TestNetworks(t *testing.T) {
	prefix := netip.MustParsePrefix
	network := func(v4, pref64 string) siit.Network {
		n := siit.Network{IPv4: prefix(v4)}
		if pref64 != "none" {
			n.PREF64 = prefix(pref64)
		}
		return n
	}
	m := siit.Mapping{
		PREF64: siit.WellKnownPrefix(),
		CLAT:   siit.Pair{IPv4: netip.MustParseAddr("192.0.0.1"), IPv6: netip.MustParseAddr("2001:db8:1::c1a7")},
		Networks: []siit.Network{
			network("10.0.0.0/8", "2001:db8:c::/96"),
			network("10.1.0.0/16", "none"),
			network("10.1.2.0/24", "2001:db8:d::/48"),
			network("10.2.0.0/16", "64:ff9b::/96"),
		},
	}
	tr, err := siit.New(siit.Config{Mapping: m, DropWKPPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	translate := func(p []byte) siit.Result {
		return tr.Translate(siit.NewScratch(1), siit.Packet{Buf: append(make([]byte, siit.Headroom), p...), Off: siit.Headroom})
	}
	for _, tt := range []struct {
		v4, v6  string
		reason  siit.Reason
		reached bool // by PrefixOf
	}{
		{"198.51.100.7", "64:ff9b::198.51.100.7", siit.None, true},
		{"10.5.6.7", "2001:db8:c::10.5.6.7", siit.None, true},
		{"10.1.2.3", "2001:db8:d:a01:2:300::", siit.None, true},
		{"10.1.3.3", "", siit.NoPREF64, false},
		{"10.2.0.1", "", siit.WKPPrivate, true},
		{"192.168.1.1", "", siit.WKPPrivate, true},
	} {
		a := netip.MustParseAddr(tt.v4)
		if _, ok := m.PrefixOf(a); ok != tt.reached {
			t.Errorf("PrefixOf(%s): %v", a, ok)
		}
		r := translate(ip4{dst: a, payload: udp(clat4, a, []byte("x"))}.bytes())
		if r.Reason != tt.reason {
			t.Errorf("to %s: %s, want %s", a, r.Reason, tt.reason)
			continue
		}
		if tt.reason == siit.NoPREF64 {
			if p := r.Packets[0].Bytes(); r.Verdict != siit.Reply || p[20] != 3 || p[21] != 1 {
				t.Errorf("to %s: %s %x, want host unreachable", a, r.Verdict, p)
			}
		}
		if tt.v6 == "" {
			continue
		}
		v6 := netip.MustParseAddr(tt.v6)
		if got := netip.AddrFrom16([16]byte(r.Packets[0].Bytes()[24:40])); got != v6 {
			t.Errorf("to %s: %s, want %s", a, got, v6)
		}
		// There and back.
		back := translate(ip6{src: v6, dst: m.CLAT.IPv6, payload: udp(v6, m.CLAT.IPv6, []byte("x"))}.bytes())
		if back.Reason != siit.None || netip.AddrFrom4([4]byte(back.Packets[0].Bytes()[12:16])) != a {
			t.Errorf("from %s: %s %v", v6, back.Reason, back.Verdict)
		}
	}
	for _, from := range []string{"64:ff9b::10.5.6.7", "2001:db8:c::198.51.100.7", "2001:db8:c::10.1.2.3", "2001:db8:c::10.1.3.3", "64:ff9b::10.1.3.3", "2001:db8:d:a05:6:700::"} {
		v6 := netip.MustParseAddr(from)
		r := translate(ip6{src: v6, dst: m.CLAT.IPv6, payload: udp(v6, m.CLAT.IPv6, []byte("x"))}.bytes())
		if r.Reason != siit.SourceOutsidePREF64 {
			t.Errorf("from %s, which is behind another prefix: %s", from, r.Reason)
		}
	}
	// A PLAT puts its own prefix in front of all routers beyond.
	for from, want := range map[string]string{
		"2001:db8:c::203.0.113.1": "203.0.113.1", "2001:db8:c::10.1.3.3": "10.1.3.3", "64:ff9b::10.5.6.7": "10.5.6.7", "2001:db8:77::1": "192.0.0.8",
	} {
		v6, remote := netip.MustParseAddr(from), netip.MustParseAddr("2001:db8:c::10.5.6.7")
		quote := ip6{src: m.CLAT.IPv6, dst: remote, payload: udp(m.CLAT.IPv6, remote, []byte("x"))}.bytes()
		r := translate(ip6{src: v6, dst: m.CLAT.IPv6, proto: protoICMPv6, payload: icmp6(v6, m.CLAT.IPv6, 3, 0, 0, quote)}.bytes())
		if r.Reason != siit.None || netip.AddrFrom4([4]byte(r.Packets[0].Bytes()[12:16])) != netip.MustParseAddr(want) {
			t.Errorf("ICMP error from %s: %s", from, r.Reason)
		}
	}
	for name, list := range map[string][]siit.Network{
		"a network twice":       {network("10.0.0.0/8", "none"), network("10.0.0.0/8", "2001:db8:c::/96")},
		"prefixes overlap":      {network("10.0.0.0/8", "2001:db8::/32"), network("11.0.0.0/8", "2001:db8:c::/96")},
		"a prefix of IPv4":      {network("10.0.0.0/8", "10.0.0.0/8")},
		"a wrong length":        {network("10.0.0.0/8", "2001:db8:c::/95")},
		"an IPv6 network":       {network("2001:db8::/32", "none")},
		"the CLAT's own prefix": {network("10.0.0.0/8", "2001:db8:1::/64")},
	} {
		bad := m
		bad.Networks = list
		if _, err := siit.New(siit.Config{Mapping: bad}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := siit.New(siit.Config{Mapping: siit.Mapping{PREF64: m.PREF64, Networks: m.Networks}}); err == nil {
		t.Error("networks without a CLAT are accepted")
	}
}
