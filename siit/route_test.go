package siit_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"tnat64d/siit"
)

// Packets to what a route keeps them from are dropped, and answered as RFC 7915
// section 5.2 translates the answer of an IPv6 router.
func TestRoutes(t *testing.T) {
	cfg := siit.Config{Mapping: siit.Mapping{
		PREF64: netip.MustParsePrefix("2001:db8:64::/96"),
		CLAT:   siit.Pair{IPv4: netip.MustParseAddr("192.0.0.1"), IPv6: netip.MustParseAddr("2001:db8:1::c1a7")},
	}}
	plain, err := siit.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	route := func(p string, a siit.RouteAction) siit.Route {
		return siit.Route{Prefix: netip.MustParsePrefix(p), Action: a}
	}
	routed := plain.WithRoutes([]siit.Route{
		route("2001:db8:64::cb00:7100/120", siit.RouteUnreachable), // 203.0.113.0/24
		route("2001:db8:64::cb00:7180/121", siit.RouteForward),     // 203.0.113.128/25
		route("2001:db8:64::cb00:71ff/128", siit.RouteProhibit),    // 203.0.113.255
		route("2001:db8:64::cb00:71ff/128", siit.RouteForward),     // a second one does not count
		route("2001:db8:64::c633:6400/120", siit.RouteBlackhole),   // 198.51.100.0/24
	})
	for _, tt := range []struct {
		dst     string
		verdict siit.Verdict
		reason  siit.Reason
		code    byte
	}{
		{"203.0.113.9", siit.Reply, siit.NoRoute, 1},
		{"203.0.113.129", siit.Translated, siit.None, 0},
		{"203.0.113.255", siit.Reply, siit.ProhibitedByRoute, 10},
		{"198.51.100.7", siit.Drop, siit.BlackholeRoute, 0},
		{"192.0.2.1", siit.Translated, siit.None, 0},
	} {
		p := make([]byte, 28)
		p[0], p[3], p[8], p[9] = 0x45, 28, 64, 17
		copy(p[12:], []byte{192, 0, 0, 1})
		dst := netip.MustParseAddr(tt.dst).As4()
		copy(p[16:], dst[:])
		p[25] = 8
		p[26], p[27] = 0x12, 0x34
		sum := uint32(0)
		for i := 0; i < 20; i += 2 {
			sum += uint32(p[i])<<8 | uint32(p[i+1])
		}
		sum = sum&0xffff + sum>>16
		p[10], p[11] = byte(^sum>>8), byte(^sum)

		run := func(tr *siit.Translator) siit.Result {
			buf := append(make([]byte, siit.Headroom), p...)
			return tr.Translate(siit.NewScratch(1), siit.Packet{Buf: buf, Off: siit.Headroom})
		}
		if r := run(plain); r.Verdict != siit.Translated {
			t.Errorf("%s without routes: %v %v", tt.dst, r.Verdict, r.Reason)
		}
		r := run(routed)
		if r.Verdict != tt.verdict || r.Reason != tt.reason {
			t.Errorf("%s: %v %v, want %v %v", tt.dst, r.Verdict, r.Reason, tt.verdict, tt.reason)
			continue
		}
		if tt.verdict != siit.Reply {
			continue
		}
		answer := r.Packets[0].Bytes()
		if answer[20] != 3 || answer[21] != tt.code || [4]byte(answer[16:20]) != [4]byte{192, 0, 0, 1} {
			t.Errorf("%s: the answer is %x", tt.dst, answer)
		}
	}
}

// A path with a smaller MTU than others has its own limits.
func TestRouteMTU(t *testing.T) {
	plain, err := siit.New(siit.Config{LowestIPv6MTU: 1500, Mapping: siit.Mapping{
		PREF64: netip.MustParsePrefix("2001:db8:64::/96"),
		CLAT:   siit.Pair{IPv4: netip.MustParseAddr("192.0.0.1"), IPv6: netip.MustParseAddr("2001:db8:1::c1a7")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	route := func(p string, mtu int) siit.Route { return siit.Route{Prefix: netip.MustParsePrefix(p), MTU6: mtu} }
	routed := plain.WithRoutes([]siit.Route{
		route("2001:db8:64::cb00:7100/120", 1400), // 203.0.113.0/24
		route("2001:db8:64::cb00:7180/121", 9000), // 203.0.113.128/25
		route("2001:db8:64::cb00:71ff/128", 500),  // 203.0.113.255
		route("2001:db8:64::cb00:71fe/128", 0),
	})
	const df = 0x4000
	for _, tt := range []struct {
		dst     string
		frag    uint16
		length  int // of the IPv4 packet
		packets []int
		tooBig  int // 0, or the MTU in the answer
	}{
		{"203.0.113.9", df, 1380, []int{1400}, 0},
		{"203.0.113.9", df, 1381, nil, 1380},
		{"203.0.113.9", 0, 1380, []int{1400}, 0},
		{"203.0.113.9", 0, 1381, []int{1400, 57}, 0},
		{"203.0.113.129", df, 1480, []int{1500}, 0},
		{"203.0.113.129", df, 1481, nil, 1480},
		{"203.0.113.254", df, 1480, []int{1500}, 0},
		{"203.0.113.255", df, 1260, []int{1280}, 0},
		{"203.0.113.255", df, 1261, nil, 1260},
		{"198.51.100.7", df, 1480, []int{1500}, 0},
	} {
		p := make([]byte, siit.Headroom+tt.length)
		b := p[siit.Headroom:]
		b[0], b[8], b[9] = 0x45, 64, 253
		binary.BigEndian.PutUint16(b[2:], uint16(tt.length))
		binary.BigEndian.PutUint16(b[6:], tt.frag)
		copy(b[12:], []byte{192, 0, 0, 1})
		dst := netip.MustParseAddr(tt.dst).As4()
		copy(b[16:], dst[:])
		binary.BigEndian.PutUint16(b[10:], ^siit.Sum(b[:20], 0))
		r := routed.Translate(siit.NewScratch(1), siit.Packet{Buf: p, Off: siit.Headroom})
		var got []int
		tooBig := 0
		for _, q := range r.Packets {
			if r.Verdict == siit.Reply {
				tooBig = int(binary.BigEndian.Uint16(q.Bytes()[26:]))
				continue
			}
			got = append(got, len(q.Bytes()))
		}
		if !slices.Equal(got, tt.packets) || tooBig != tt.tooBig {
			t.Errorf("%d bytes to %s: %v %v, packets of %v bytes and MTU %d, want %v and %d", tt.length, tt.dst, r.Verdict, r.Reason, got, tooBig, tt.packets, tt.tooBig)
		}
	}
}
