package siit_test

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"tnat64d/siit"
)

func TestParseHeader(t *testing.T) {
	hbh := options(protoHopByHop, 2)
	for _, c := range []struct {
		name string
		in   []byte
		want siit.Header
	}{
		{"IPv4", ip4{ttl: 9, id: 0x1234, payload: data(30)}.bytes(),
			siit.Header{Version: 4, TTL: 9, Protocol: protoUDP, Src: clat4, Dst: remote4, Len: 20, Total: 50, ID: 0x1234}},
		{"IPv4 with options", ip4{options: make([]byte, 40), payload: data(8)}.bytes(),
			siit.Header{Version: 4, TTL: 64, Protocol: protoUDP, Src: clat4, Dst: remote4, Len: 60, Total: 68}},
		{"IPv4 first fragment", ip4{mf: true, payload: data(8)}.bytes(),
			siit.Header{Version: 4, TTL: 64, Protocol: protoUDP, Src: clat4, Dst: remote4, Len: 20, Total: 28, Fragment: true, More: true}},
		{"IPv4 last fragment", ip4{offset: 65528 / 8 * 8, payload: data(1)}.bytes(),
			siit.Header{Version: 4, TTL: 64, Protocol: protoUDP, Src: clat4, Dst: remote4, Len: 20, Total: 21, Fragment: true, Offset: 65528}},
		{"IPv6", ip6{hop: 3, payload: data(8)}.bytes(),
			siit.Header{Version: 6, TTL: 3, Protocol: protoUDP, Src: remote6, Dst: clat6, Len: 40, Total: 48}},
		{"IPv6 with extensions", ip6{ext: []extension{hbh, routing(0), fragment(0x12345678, 16, true)}, proto: protoTCP, payload: data(8)}.bytes(),
			siit.Header{Version: 6, TTL: 64, Protocol: protoTCP, Src: remote6, Dst: clat6, Len: 40 + 16 + 24 + 8, Total: 96, Fragment: true, More: true, Offset: 16, ID: 0x12345678}},
		{"IPv6 atomic fragment", ip6{ext: []extension{fragment(7, 0, false)}, payload: data(8)}.bytes(),
			siit.Header{Version: 6, TTL: 64, Protocol: protoUDP, Src: remote6, Dst: clat6, Len: 48, Total: 56, Fragment: true, ID: 7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if h, ok := siit.ParseHeader(c.in); h != c.want || !ok {
				t.Errorf("\n got %+v, %v\nwant %+v", h, ok, c.want)
			}
			fixed := map[uint8]int{4: 20, 6: 40}[c.want.Version]
			for n := range c.in { // cut short, as in a capture
				h, ok := siit.ParseHeader(c.in[:n])
				switch {
				case n < fixed && (ok || h.Version != 0):
					t.Errorf("%d bytes: %+v, %v", n, h, ok)
				case n >= fixed && (h.Src != c.want.Src || h.Dst != c.want.Dst || ok != (n >= c.want.Len)):
					t.Errorf("%d bytes: %+v, %v", n, h, ok)
				}
			}
		})
	}
	for name, in := range map[string][]byte{
		"empty":           {},
		"version 5":       append([]byte{0x55}, make([]byte, 60)...),
		"IHL 4":           append([]byte{0x44, 0, 0, 40}, make([]byte, 40)...),
		"total below IHL": append([]byte{0x46, 0, 0, 23}, make([]byte, 40)...),
	} {
		if h, ok := siit.ParseHeader(in); ok {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestPseudoHeaderSum(t *testing.T) {
	for _, c := range []struct{ src, dst netip.Addr }{{clat4, remote4}, {remote6, clat6}} {
		for _, proto := range []uint8{protoTCP, protoUDP, protoICMPv6} {
			for _, n := range []int{8, 1440, 65535} {
				if got, want := siit.PseudoHeaderSum(c.src, c.dst, n, proto), pseudoSum(proto, c.src, c.dst, n); !sameSum(got, want) {
					t.Errorf("%v > %v, protocol %d, %d bytes: %#x, want %#x", c.src, c.dst, proto, n, got, want)
				}
			}
		}
	}
	b := data(33)
	if got, want := siit.Sum(b, 0x1234), checksum.Checksum(b, 0x1234); got != want {
		t.Errorf("sum %#x, want %#x", got, want)
	}
}

// What NeutralWord gives is neutral, for any host behind the prefix.
func TestNeutralWord(t *testing.T) {
	for _, s := range []string{"64:ff9b::/96", "2001:db8:64::/96", "2001:db8::/32", "2001:db8:100::/40", "2001:db8:122::/48", "2001:db8:122:300::/56", "2001:db8:122:344::/64"} {
		prefix := netip.MustParsePrefix(s)
		p, err := siit.NewPrefix(prefix)
		if err != nil {
			t.Fatal(err)
		}
		pair := siit.Pair{IPv4: clat4, IPv6: netip.MustParseAddr("2001:db8:aaaa:1:1234:5678:9abc:def0")}
		word := p.NeutralWord(pair)
		a := pair.IPv6.As16()
		a[14], a[15] = byte(word>>8), byte(word)
		pair.IPv6 = netip.AddrFrom16(a)
		if again := p.NeutralWord(pair); again != word {
			t.Errorf("%s: %#x, then %#x", s, word, again)
		}
		if aligned := prefix.Bits() == 96 || prefix.Bits() == 32; p.Neutral(pair) != aligned {
			t.Errorf("%s: %v is neutral: %v", s, pair.IPv6, !aligned)
		} else if !aligned {
			if got, want := siit.Sum(a[:], 0), siit.Sum(clat4.AsSlice(), 0); !sameSum(got, want) {
				t.Errorf("%s: %v has the sum %#x, want %#x", s, pair.IPv6, got, want)
			}
			continue
		}
		for _, host := range []string{"198.51.100.7", "255.255.255.255", "0.0.0.1"} {
			v4 := netip.MustParseAddr(host)
			if a, b := pseudoSum(protoTCP, pair.IPv4, v4, 20), pseudoSum(protoTCP, pair.IPv6, p.Embed(v4), 20); !sameSum(a, b) {
				t.Errorf("%s, %s: sums %#x and %#x", s, host, a, b)
			}
		}
	}
}
