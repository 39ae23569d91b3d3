package pref64

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

// TestRDNSSOption is RFC 8106 section 5.1.
func TestRDNSSOption(t *testing.T) {
	const a, b = "20010db8000000000000000000000053", "fe800000000000000000000000000053"
	for _, c := range []struct {
		name, option string
		want         []RDNSS
		ignored      []Reason
	}{
		{"one", "1903000000000708" + a, []RDNSS{{addrs("2001:db8::53"), 30 * time.Minute}}, nil},
		{"two", "1905000000000708" + a + b, []RDNSS{{addrs("2001:db8::53", "fe80::53"), 30 * time.Minute}}, nil},
		{"for ever", "19030000ffffffff" + a, []RDNSS{{addrs("2001:db8::53"), Infinite}}, nil},
		{"withdrawn", "1903000000000000" + a, []RDNSS{{addrs("2001:db8::53"), 0}}, nil},
		{"reserved field", "1903ffff00000708" + a, []RDNSS{{addrs("2001:db8::53"), 30 * time.Minute}}, nil},
		{"none", "1901000000000708", nil, []Reason{BadLength}},
		{"half an address", "1902000000000708" + a[:16], nil, []Reason{BadLength}},
		{"one and a half", "1904000000000708" + a + b[:16], nil, []Reason{BadLength}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ra, reason := ParseRA(router1, 255, unhex(t, raHeader+c.option))
			var ignored []Reason
			for _, ig := range ra.Ignored {
				ignored = append(ignored, ig.Reason)
			}
			if reason != None || !reflect.DeepEqual(ra.RDNSS, c.want) || !slices.Equal(ignored, c.ignored) {
				t.Errorf("got %+v, %v, %v", ra.RDNSS, ignored, reason)
			}
			// The kernel passes it on alone.
			var r Report
			now := time.Now()
			r.add(userOptDatagram(uplink, router1, unhex(t, c.option)), uplink, now)
			if whole := ra.report(uplink, now); !reflect.DeepEqual(r.Resolvers, whole.Resolvers) || len(r.Ignored) != len(c.ignored) {
				t.Errorf("of the kernel: %+v, of the message: %+v", r, whole)
			}
			if len(c.want) > 0 && r.Resolvers[0].Expires.IsZero() != (c.want[0].Lifetime == Infinite) {
				t.Errorf("%+v", r.Resolvers)
			}
		})
	}
}

// TestResolvers: which resolvers are remembered, and how long.
func TestResolvers(t *testing.T) {
	send := func(l *lookout, router netip.Addr, lifetime time.Duration, servers ...string) {
		l.send(RouterAdvertisement{Router: router, RouterLifetime: time.Hour, PREF64: []PREF64{{prefixA, time.Hour}},
			RDNSS: []RDNSS{{addrs(servers...), lifetime}}})
	}
	has := func(l *lookout, want ...string) {
		l.t.Helper()
		if got := l.Snapshot().Resolvers; !slices.Equal(got, addrs(want...)) {
			l.t.Fatalf("got %v, want %v", got, want)
		}
	}
	scripts{
		{"lifetimes", func(t *testing.T) {
			l := newLookout(t, nil)
			send(l, router1, time.Minute, "2001:db8::1")
			send(l, router1, Infinite, "2001:db8::2")
			has(l, "2001:db8::1", "2001:db8::2")
			l.sleep(time.Second)
			l.announced()
			l.sleep(29 * time.Second)
			send(l, router1, time.Minute, "2001:db8::1")
			if l.announced() {
				t.Error("a refresh is announced")
			}
			l.sleep(time.Minute)
			has(l, "2001:db8::2")
			if !l.announced() {
				t.Error("not announced")
			}
		}},
		{"taken back, by its router only", func(t *testing.T) {
			l := newLookout(t, nil)
			send(l, router1, time.Minute, "2001:db8::1")
			send(l, router2, time.Minute, "2001:db8::1")
			send(l, router1, 0, "2001:db8::1", "2001:db8::2")
			has(l, "2001:db8::1")
			send(l, router2, 0, "2001:db8::1")
			has(l)
		}},
		{"of no use", func(t *testing.T) {
			l := newLookout(t, nil)
			send(l, router1, time.Minute, "::1", "::", "ff02::1", "::ffff:192.0.2.1", "fe80::1")
			has(l, "fe80::1")
		}},
		{"a flood leaves room for another router", func(t *testing.T) {
			l := newLookout(t, nil)
			for i := range 200 {
				a := netip.MustParseAddr("2001:db8::").As16()
				binary.BigEndian.PutUint16(a[14:], uint16(i+1))
				send(l, router1, time.Hour, netip.AddrFrom16(a).String())
			}
			send(l, router2, time.Minute, "2001:db8:53::1")
			l.Tracker.mu.Lock()
			defer l.Tracker.mu.Unlock()
			if n := len(l.state.resolvers); n != maxResolversPerRouter+1 {
				t.Errorf("%d are remembered", n)
			}
		}},
	}.run(t)
}
