package siit_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// ICMP errors of the translator's own making: RFC 7915 sections 4.4 and 5.4. The
// harness checks each reply's form.

// refusals is a packet for each reason that there is a reply for.
func refusals() map[string][]byte {
	expired4, expired6 := udp4(100, true), udp6(100)
	expired4[8], expired6[7] = 1, 1
	fixIPv4Checksum(expired4)
	return map[string][]byte{
		"TTL 1":           expired4,
		"too big 4":       udp4(1500, true),
		"source route":    ip4{options: []byte{1, 131, 7, 4, 192, 0, 2, 9}, payload: udp(clat4, remote4, data(8))}.bytes(),
		"hop limit 1":     expired6,
		"too big 6":       udp6(1501),
		"routing header":  ip6{ext: []extension{routing(1)}, payload: udp(remote6, clat6, data(8))}.bytes(),
		"outside PREF64":  ip6{src: native6, payload: udp(native6, clat6, data(8))}.bytes(),
		"TTL 1, 4000":     withTTL(udp4(4000, false), 1),
		"hop limit 0, 4k": withTTL(udp6(4000), 0),
	}
}

func withTTL(b []byte, ttl uint8) []byte {
	if b[0]>>4 == 6 {
		b[7] = ttl
		return b
	}
	b[8] = ttl
	fixIPv4Checksum(b)
	return b
}

func TestRepliesAreSent(t *testing.T) {
	r := newRig(t, hostConfig())
	for name, in := range refusals() {
		t.Run(name, func(t *testing.T) {
			o := r.run(t, in, siit.Offload{})
			if o.verdict != siit.Reply {
				t.Fatalf("%v", o)
			}
		})
	}
}

func TestReplySources(t *testing.T) {
	cfg := hostConfig()
	cfg.ICMPSource4 = netip.MustParseAddr("192.0.0.6")
	cfg.ICMPSource6 = netip.MustParseAddr("2001:db8:aaaa::1")
	r := newRig(t, cfg) // the harness compares
	defaults := newRig(t, siit.Config{Mapping: hostConfig().Mapping})
	router := newRig(t, routerConfig())
	for name, in := range refusals() {
		t.Run(name, func(t *testing.T) {
			for _, r := range []*rig{r, defaults} {
				if o := r.run(t, in, siit.Offload{}); o.verdict != siit.Reply {
					t.Errorf("%v", o)
				}
			}
			router.run(t, in, siit.Offload{})
		})
	}
	// In a router: from the destination of the packet it is about.
	dst := embed(pref64, netip.MustParseAddr("203.0.113.5"))
	in := withTTL(ip6{dst: dst, payload: udp(remote6, dst, data(8))}.bytes(), 1)
	if p := mustParse(t, router.run(t, in, siit.Offload{}).reply(t, siit.TTLExceeded)); p.src != dst {
		t.Errorf("from %v, want %v", p.src, dst)
	}
}

func TestRepliesAreNotSent(t *testing.T) {
	r := newRig(t, hostConfig())
	group4, group6 := netip.MustParseAddr("224.0.0.9"), netip.MustParseAddr("ff0e::9")
	for _, c := range []struct {
		name string
		in   []byte
	}{
		{"TTL, ICMP errors", withTTL(error4(3, 3, 0, received4(20)), 1)},
		{"TTL, redirect", withTTL(error4(5, 0, 0, received4(20)), 1)},
		{"TTL, source quench", withTTL(error4(4, 0, 0, received4(20)), 1)},
		{"TTL, parameter problem", withTTL(error4(12, 0, 0, received4(20)), 1)},
		{"TTL, later fragment", ip4{ttl: 1, offset: 8, payload: data(64)}.bytes()},
		{"size, later fragment", ip4{df: true, offset: 8, payload: data(1460)}.bytes()},
		{"source route, later fragment", ip4{offset: 8, options: []byte{1, 131, 7, 4, 1, 2, 3, 4}, payload: data(64)}.bytes()},
		{"source route, ICMP error", ip4{proto: protoICMP, options: []byte{1, 131, 7, 4, 1, 2, 3, 4}, payload: icmp4(3, 3, 0, received4(20))}.bytes()},
		{"TTL, multicast", withTTL(ip4{dst: group4, payload: udp(clat4, group4, data(8))}.bytes(), 1)},
		{"TTL, broadcast", withTTL(ip4{dst: netip.MustParseAddr("255.255.255.255"), payload: data(8)}.bytes(), 1)},
		{"TTL, bad checksum", func() []byte { b := withTTL(udp4(100, true), 1); b[11]++; return b }()},
		{"TTL, not ours", withTTL(ip4{src: netip.MustParseAddr("203.0.113.9"), payload: data(64)}.bytes(), 1)},
		{"hop limit, ICMPv6 error", withTTL(error6(remote6, 1, 4, 0, sent6(20)), 1)},
		{"hop limit, ICMPv6 error of unknown type", withTTL(error6(remote6, 100, 0, 0, sent6(20)), 1)},
		{"hop limit, redirect", withTTL(error6(remote6, 137, 0, 0, sent6(20)), 1)},
		{"hop limit, error behind extension headers", ip6{hop: 1, ext: []extension{options(protoDestOpts, 1)}, proto: protoICMPv6, payload: icmp6(remote6, clat6, 3, 0, 0, sent6(20))}.bytes()},
		{"hop limit, error in a first fragment", ip6{hop: 1, ext: []extension{fragment(3, 0, true)}, proto: protoICMPv6, payload: icmp6(remote6, clat6, 3, 0, 0, sent6(24))}.bytes()},
		{"hop limit, multicast", ip6{hop: 1, dst: group6, payload: udp(remote6, group6, data(8))}.bytes()},
		{"hop limit, unspecified source", ip6{hop: 1, src: netip.IPv6Unspecified(), payload: data(64)}.bytes()},
		{"hop limit, multicast source", ip6{hop: 1, src: group6, payload: data(64)}.bytes()},
		{"hop limit, not ours", ip6{hop: 1, dst: native6, payload: udp(remote6, native6, data(8))}.bytes()},
	} {
		t.Run(c.name, func(t *testing.T) {
			if o := r.run(t, c.in, siit.Offload{}); o.verdict != siit.Drop {
				t.Errorf("%v", o)
			}
		})
	}
}

// TestRouterRepliesAreNotSent: a router knows more reasons to refuse, but it
// must not answer an invalid source for any of them either.
func TestRouterRepliesAreNotSent(t *testing.T) {
	r := newRig(t, routerConfig())
	for _, src := range []string{"::", "::1", "ff0e::9"} {
		a := netip.MustParseAddr(src)
		for name, in := range map[string][]byte{
			"unmappable destination": ip6{src: a, dst: native6, payload: udp(a, native6, data(8))}.bytes(),
			"hop limit":              ip6{src: a, hop: 1, dst: remote6, payload: udp(a, remote6, data(8))}.bytes(),
			"routing header":         ip6{src: a, dst: remote6, ext: []extension{routing(1)}, payload: udp(a, remote6, data(8))}.bytes(),
			"too big":                ip6{src: a, dst: remote6, payload: udp(a, remote6, data(2000))}.bytes(),
		} {
			t.Run(name+" from "+src, func(t *testing.T) {
				if o := r.run(t, in, siit.Offload{}); o.verdict != siit.Drop {
					t.Errorf("%v", o)
				}
			})
		}
	}
}

// TestTraceroute: queries are answered where errors are not.
func TestTraceroute(t *testing.T) {
	r := newRig(t, hostConfig())
	echo4 := withTTL(ip4{proto: protoICMP, payload: icmp4(8, 0, 0x00070001, data(32))}.bytes(), 1)
	r.run(t, echo4, siit.Offload{}).reply(t, siit.TTLExceeded)
	echo6 := withTTL(ip6{proto: protoICMPv6, payload: icmp6(remote6, clat6, 128, 0, 0x00070001, data(32))}.bytes(), 1)
	r.run(t, echo6, siit.Offload{}).reply(t, siit.TTLExceeded)
	// The first fragment of a datagram may be answered.
	first := withTTL(ip4{mf: true, payload: udp(clat4, remote4, data(64))}.bytes(), 1)
	e := r.run(t, first, siit.Offload{}).reply(t, siit.TTLExceeded)
	if got := binary.BigEndian.Uint16(e[28+4:]); got != 0 {
		t.Errorf("quoted identification %#x", got)
	}

	if e[1] != 0xc0 && e[1] != 0xe0 && e[1] != 0 {
		t.Errorf("TOS of the reply %#x", e[1])
	}
}
