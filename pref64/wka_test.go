package pref64

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// embed puts an IPv4 address behind a prefix (RFC 6052 section 2.2).
func embed(p netip.Prefix, v4 [4]byte) netip.Addr {
	b := p.Masked().Addr().As16()
	at := p.Bits() / 8
	for _, v := range v4 {
		if at == 8 {
			at++
		}
		b[at] = v
		at++
	}
	return netip.AddrFrom16(b)
}

// TestPrefixOf finds the prefix in addresses of ipv4only.arpa (RFC 7050 section 3).
func TestPrefixOf(t *testing.T) {
	for _, c := range []struct {
		name, addr, want string
		reason           Reason
	}{
		{"/32", "2001:db8:c000:aa::", "2001:db8::/32", None},
		{"/32, the other", "2001:db8:c000:ab::", "2001:db8::/32", None},
		{"/40", "2001:db8:1c0:0:aa::", "2001:db8:100::/40", None},
		{"/40, the other", "2001:db8:1c0:0:ab::", "2001:db8:100::/40", None},
		{"/48", "2001:db8:122:c000:0:aa00::", "2001:db8:122::/48", None},
		{"/48, the other", "2001:db8:122:c000:0:ab00::", "2001:db8:122::/48", None},
		{"/56", "2001:db8:122:3c0:0:aa::", "2001:db8:122:300::/56", None},
		{"/56, the other", "2001:db8:122:3c0:0:ab::", "2001:db8:122:300::/56", None},
		{"/64", "2001:db8:122:344:c0:0:aa00:0", "2001:db8:122:344::/64", None},
		{"/64, the other", "2001:db8:122:344:c0:0:ab00:0", "2001:db8:122:344::/64", None},
		{"/96", "2001:db8:122:344::c000:aa", "2001:db8:122:344::/96", None},
		{"/96, the other", "2001:db8:122:344::c000:ab", "2001:db8:122:344::/96", None},
		{"well-known", "64:ff9b::c000:aa", "64:ff9b::/96", None},
		{"well-known, the other", "64:ff9b::c000:ab", "64:ff9b::/96", None},

		{"twice", "2001:db8:c000:aa::c000:aa", "", Ambiguous},
		{"both once", "2001:db8:c000:aa::c000:ab", "", Ambiguous},
		{"twice, the other once in the same address", "2001:db8:c000:aa:c0:0:aa00:0", "", Ambiguous},
		{"again at no standard position", "2001:c000:aa::c000:aa", "", Ambiguous},
		{"overlapping nothing, in the suffix", "2001:db8:c000:aa:0:c000:aa::", "", Ambiguous},
		{"only at no standard position", "2001:c000:aa::1", "", NoWellKnown},
		{"at an odd octet", "20c0:0:aa00::1", "", NoWellKnown},
		{"not on an octet boundary", "2001:db8:c:0:a:a000::", "", NoWellKnown},
		{"nothing", "2001:db8::1", "", NoWellKnown},
		{"the addresses of a portal", "2001:db8::c0a8:101", "", NoWellKnown},
		{"byte 8 of a /32", "2001:db8:c000:aa:100::", "", NoWellKnown},
		{"byte 8 of a /40", "2001:db8:1c0:0:1aa::", "", NoWellKnown},
		{"byte 8 of a /48", "2001:db8:122:c000:100:aa00::", "", NoWellKnown},
		{"byte 8 of a /56", "2001:db8:122:3c0:100:aa::", "", NoWellKnown},
		{"byte 8 of a /64", "2001:db8:122:344:1c0:0:aa00:0", "", NoWellKnown},
		{"byte 8 of a /96 is the prefix's", "2001:db8:122:344:ff00::c000:aa", "2001:db8:122:344:ff00::/96", None},
		{"a suffix", "2001:db8:c000:aa:12:3456:789a:bcde", "2001:db8::/32", None},
		{"a suffix of a /64", "2001:db8:122:344:c0:0:aaff:ffff", "2001:db8:122:344::/64", None},
		{"no PREF64: mapped", "::ffff:192.0.0.170", "", BadPrefix},
		{"no PREF64: link-local", "fe80::c000:aa", "", BadPrefix},
		{"no PREF64: compatible", "::192.0.0.171", "", BadPrefix},
		{"no PREF64: multicast", "ff0e:0:c000:aa::", "", BadPrefix},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := netip.MustParseAddr(c.addr)
			got, reason := prefixOf(a, []netip.Addr{a})
			want := netip.Prefix{}
			if c.want != "" {
				want = netip.MustParsePrefix(c.want)
			}
			if got != want || reason != c.reason {
				t.Errorf("got %v, %v; want %v, %v", got, reason, want, c.reason)
			}
		})
	}
}

// TestPrefixesOf finds the prefixes of a whole answer (RFC 7050 section 3).
func TestPrefixesOf(t *testing.T) {
	for _, c := range []struct {
		name   string
		addrs  []string
		want   []string
		reason Reason
	}{
		{"none", nil, nil, None},
		{"both of one prefix", []string{"64:ff9b::c000:aa", "64:ff9b::c000:ab"}, []string{"64:ff9b::/96"}, None},
		{"one alone", []string{"64:ff9b::c000:ab"}, []string{"64:ff9b::/96"}, None},
		{"several, in order", []string{"2001:db8:b::c000:aa", "64:ff9b::c000:ab", "2001:db8:b::c000:ab", "64:ff9b::c000:aa"},
			[]string{"2001:db8:b::/96", "64:ff9b::/96"}, None},
		{"several, of one each", []string{"2001:db8:b::c000:aa", "64:ff9b::c000:aa"},
			[]string{"2001:db8:b::/96", "64:ff9b::/96"}, None},
		{"the prefix holds .170", []string{"2001:db8:c000:aa::c000:aa", "2001:db8:c000:aa::c000:ab"},
			[]string{"2001:db8:c000:aa::/96"}, None},
		{"in the other order", []string{"2001:db8:c000:aa::c000:ab", "2001:db8:c000:aa::c000:aa"},
			[]string{"2001:db8:c000:aa::/96"}, None},
		{"the prefix holds .171", []string{"2001:db8:c000:ab::c000:aa", "2001:db8:c000:ab::c000:ab"},
			[]string{"2001:db8:c000:ab::/96"}, None},
		{"the prefix holds both", []string{"c000:aa:c000:ab::c000:aa", "c000:aa:c000:ab::c000:ab"}, nil, Ambiguous},
		{"ambiguous, and nothing else", []string{"2001:db8:c000:aa::c000:aa"}, nil, Ambiguous},
		{"an ambiguous one does not spoil others", []string{"2001:db8:c000:aa::c000:aa", "64:ff9b::c000:aa"},
			[]string{"64:ff9b::/96"}, None},
		{"a portal's does not spoil others", []string{"2001:db8::1", "64:ff9b::c000:aa"}, []string{"64:ff9b::/96"}, None},
		{"a portal's", []string{"2001:db8::1", "2001:db8::2"}, nil, NoWellKnown},
	} {
		t.Run(c.name, func(t *testing.T) {
			var addrs []netip.Addr
			for _, a := range c.addrs {
				addrs = append(addrs, netip.MustParseAddr(a))
			}
			var want []netip.Prefix
			for _, p := range c.want {
				want = append(want, netip.MustParsePrefix(p))
			}
			got, reason := prefixesOf(addrs)
			if !slices.Equal(got, want) || reason != c.reason {
				t.Errorf("got %v, %v; want %v, %v", got, reason, want, c.reason)
			}
		})
	}
}

// TestPrefixesOfNeverGuesses: whatever a prefix is made of, what a DNS64 makes
// with it gives that prefix, or none; and none only if a well-known address is
// in it.
func TestPrefixesOfNeverGuesses(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	bricks := []byte{0xc0, 0, 0, 0, 0xaa, 0xab}
	right := 0
	for range 60_000 {
		var b [16]byte
		for i := 0; i < len(b); {
			if rnd.IntN(3) == 0 {
				i += copy(b[i:], wellKnown[rnd.IntN(2)][:])
			} else {
				b[i] = bricks[rnd.IntN(len(bricks))]
				i++
			}
		}
		bits := [...]int{32, 40, 48, 56, 64, 96}[rnd.IntN(6)]
		if bits == 96 && rnd.IntN(2) == 0 {
			b[8] = 0
		}
		p, err := Check(netip.PrefixFrom(netip.AddrFrom16(b), bits))
		if err != nil {
			continue
		}
		got, _ := prefixesOf([]netip.Addr{embed(p, wellKnown[0]), embed(p, wellKnown[1])})
		switch {
		case len(got) == 1 && got[0] == p:
			right++
		case len(got) > 0:
			t.Fatalf("%v is taken for %v", p, got)
		}
	}
	if right < 20_000 {
		t.Errorf("only %d prefixes were found", right)
	}
}
