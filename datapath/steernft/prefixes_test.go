package steernft

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// lookup is the longest-prefix match that spans flattens.
func lookup(hops []NextHop, a netip.Addr) (best NextHop, found bool) {
	for _, h := range hops {
		if h.Prefix.Contains(a) && (!found || h.Prefix.Bits() >= best.Prefix.Bits()) {
			best, found = h, true
		}
	}
	best.Prefix = best.Prefix.Masked()
	return best, found
}

func TestSpansAreTheLongestPrefixMatch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	// Addresses differ in few bits, so that prefixes nest and touch.
	address := func() netip.Addr {
		var a [16]byte
		a[0], a[15], a[14] = 0x20, byte(r.IntN(256)), byte(r.IntN(2))
		return netip.AddrFrom16(a)
	}
	for range 300 {
		var hops []NextHop
		for range r.IntN(12) {
			bits := 128 - r.IntN(10)
			if r.IntN(8) == 0 {
				bits = r.IntN(120)
			}
			hops = append(hops, NextHop{Prefix: netip.PrefixFrom(address(), bits), Via: address(), Reject: r.IntN(4) == 0})
		}
		all := spans(hops)
		for i, s := range all {
			if s.last.Less(s.first) || i > 0 && !all[i-1].last.Less(s.first) {
				t.Fatalf("spans of %v are not disjoint and in order: %v", hops, all)
			}
		}
		for range 100 {
			a := address()
			want, found := lookup(hops, a)
			n := 0
			for _, s := range all {
				if !a.Less(s.first) && !s.last.Less(a) {
					n++
					got := s.hop
					got.Prefix = got.Prefix.Masked()
					if got != want {
						t.Fatalf("%s: %v, want %v\nof %v", a, got, want, hops)
					}
				}
			}
			if (n == 1) != found || n > 1 {
				t.Fatalf("%s is in %d spans, want found %v\nof %v", a, n, found, hops)
			}
		}
	}
}

func TestLastAddr(t *testing.T) {
	for p, want := range map[string]string{
		"::/0":            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		"2001:db8::/32":   "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
		"64:ff9b::/96":    "64:ff9b::ffff:ffff",
		"2001:db8::1/128": "2001:db8::1",
		"2001:db8::8/125": "2001:db8::f",
	} {
		if got := lastAddr(netip.MustParsePrefix(p)); got != netip.MustParseAddr(want) {
			t.Errorf("the last address of %s is %s, want %s", p, got, want)
		}
	}
}
