package siit_test

import (
	"bytes"
	"fmt"
	"testing"

	"tnat64d/siit"
)

// The largest packets that the lengths of either header allow, at the smallest
// and the largest MTU, are translated, answered or dropped for a reason that is
// not the size of a buffer.
func TestLargestPackets(t *testing.T) {
	const largest4, largest6 = 65535, 40 + 65535
	nop := bytes.Repeat([]byte{1}, 40)
	quote4, quote6 := received4(largest4-28), sent6(65515-8)
	packets := map[string]struct {
		in   []byte
		size int
	}{
		"UDP over IPv4":                 {ip4{payload: udp(clat4, remote4, data(largest4-28))}.bytes(), largest4},
		"UDP over IPv4, DF":             {ip4{df: true, payload: udp(clat4, remote4, data(largest4-28))}.bytes(), largest4},
		"UDP over IPv4 with options":    {ip4{options: nop, payload: udp(clat4, remote4, data(largest4-68))}.bytes(), largest4},
		"IPv4 fragment":                 {ip4{mf: true, payload: data(65512)}.bytes(), 65532},
		"IPv4 fragment, the last":       {ip4{offset: 65504, payload: data(11)}.bytes(), 31},
		"IPv4 fragment with options":    {ip4{offset: 40, options: nop, payload: data(largest4 - 60)}.bytes(), largest4},
		"ICMPv4 echo":                   {ip4{proto: protoICMP, payload: icmp4(8, 0, 1, data(largest4-28))}.bytes(), largest4},
		"ICMPv4 error":                  {ip4{proto: protoICMP, payload: icmp4(3, 3, 0, quote4[:largest4-28])}.bytes(), largest4},
		"ICMPv4 error with options":     {ip4{proto: protoICMP, options: nop, payload: icmp4(3, 3, 0, quote4[:largest4-68])}.bytes(), largest4},
		"UDP over IPv6":                 {ip6{payload: udp(remote6, clat6, data(65535-8))}.bytes(), largest6},
		"UDP over IPv6, fits IPv4":      {ip6{payload: udp(remote6, clat6, data(65515-8))}.bytes(), 65555},
		"UDP over IPv6 with extensions": {ip6{ext: []extension{options(protoDestOpts, 255)}, payload: udp(remote6, clat6, data(65535-255*8-8))}.bytes(), largest6},
		"IPv6 fragment":                 {ip6{ext: []extension{fragment(7, 0, true)}, payload: data(65512)}.bytes(), 65560},
		"IPv6 fragment, the last":       {ip6{ext: []extension{fragment(7, 65504, false)}, payload: data(11)}.bytes(), 59},
		"IPv6 atomic fragment":          {ip6{ext: []extension{fragment(7, 0, false)}, payload: udp(remote6, clat6, data(65515-8))}.bytes(), 65563},
		"ICMPv6 echo, reassembled":      {ip6{proto: protoICMPv6, ext: []extension{fragment(7, 0, false)}, payload: icmp6(remote6, clat6, 129, 0, 1, data(65515-8))}.bytes(), 65563},
		"ICMPv6 error":                  {ip6{proto: protoICMPv6, payload: icmp6(remote6, clat6, 1, 4, 0, quote6[:largest6-48])}.bytes(), largest6},
		"ICMPv6 error, extended":        {ip6{proto: protoICMPv6, payload: icmp6(remote6, clat6, 3, 0, 255<<24, quote6[:largest6-48])}.bytes(), largest6},
	}
	for _, mtu := range [][2]int{{1280, 68}, {1280, 1260}, {1500, 1480}, {65535, 65515}, {65535, 65535}} {
		for _, nodeID := range []bool{false, true} {
			cfg := hostConfig()
			cfg.MTU6, cfg.MTU4, cfg.NodeID = mtu[0], mtu[1], nodeID
			r := newRig(t, cfg)
			for name, p := range packets {
				name := fmt.Sprintf("MTU %d and %d: %s", mtu[0], mtu[1], name)
				if len(p.in) != p.size {
					t.Fatalf("%s has %d bytes, want %d", name, len(p.in), p.size)
				}
				o := r.run(t, p.in, siit.Offload{})
				if o.reason != siit.None && o.reason != siit.TooBig {
					t.Errorf("%s: %v for %v", name, o.verdict, o.reason)
				}
				// Without headroom the packet is copied first.
				s := siit.NewScratch(0)
				res := r.tr.Translate(s, siit.Packet{Buf: bytes.Clone(p.in)})
				if res.Verdict != o.verdict || res.Reason != o.reason || len(res.Packets) != len(o.packets) {
					t.Errorf("%s: without headroom %v for %v, %d packets", name, res.Verdict, res.Reason, len(res.Packets))
				}
			}
		}
	}
}
