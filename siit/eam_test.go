package siit_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// RFC 7757 explicit address mappings.

// tableE5 is the table that the RFC works its examples with.
func tableE5() siit.Config {
	cfg := routerConfig(
		eam("192.0.2.1/32", "2001:db8:aaaa::/128"),
		eam("192.0.2.2/32", "2001:db8:bbbb::b/128"),
		eam("192.0.2.16/28", "2001:db8:cccc::/124"),
		eam("192.0.2.128/26", "2001:db8:dddd::/64"),
		eam("192.0.2.192/29", "2001:db8:eeee:8::/62"),
		eam("192.0.2.224/31", "64:ff9b::/127"),
	)
	cfg.Mapping.PREF64 = netip.MustParsePrefix("64:ff9b::/96")
	return cfg
}

func TestEAMTable(t *testing.T) {
	r := newRig(t, tableE5())
	for v4, v6 := range map[string]string{
		"192.0.2.1": "2001:db8:aaaa::", "192.0.2.2": "2001:db8:bbbb::b",
		"192.0.2.16": "2001:db8:cccc::", "192.0.2.24": "2001:db8:cccc::8", "192.0.2.31": "2001:db8:cccc::f",
		"192.0.2.128": "2001:db8:dddd::", "192.0.2.152": "2001:db8:dddd:0:6000::", "192.0.2.183": "2001:db8:dddd:0:dc00::",
		"192.0.2.191": "2001:db8:dddd:0:fc00::", "192.0.2.195": "2001:db8:eeee:9:8000::",
		"192.0.2.225": "64:ff9b::1", "192.0.2.248": "64:ff9b::c000:2f8",
	} {
		t.Run(v4, func(t *testing.T) {
			a4, a6 := netip.MustParseAddr(v4), netip.MustParseAddr(v6)
			if got := map6(t, r, a4); got != a6 {
				t.Errorf("%v became %v, want %v", a4, got, a6)
			}
			if got := map4(t, r, a6); got != a4 {
				t.Errorf("%v became %v, want %v", a6, got, a4)
			}
		})
	}
	t.Run("trailing bits are cut", func(t *testing.T) {
		for _, v6 := range []string{"2001:db8:dddd:0:6000::1", "2001:db8:dddd:0:63ff:ffff:ffff:ffff"} {
			if got := map4(t, r, netip.MustParseAddr(v6)); got.String() != "192.0.2.152" {
				t.Errorf("%s became %v", v6, got)
			}
		}
	})
}

func TestEAMLongestPrefix(t *testing.T) {
	r := newRig(t, routerConfig(
		eam("20.0.0.0/8", "2001:db8:8::/48"),
		eam("20.1.0.0/16", "2001:db8:16::/64"),
		eam("20.1.2.0/24", "2001:db8:8:100::/56"), // nested in another entry's IPv6 prefix
		eam("20.1.2.3/32", "2001:db8:32::3/128"),
	))
	for v4, v6 := range map[string]string{
		"20.9.9.9": "2001:db8:8:909:900::", "20.1.9.9": "2001:db8:16:0:909::", "20.1.2.9": "2001:db8:8:109::", "20.1.2.3": "2001:db8:32::3",
	} {
		if got := map6(t, r, netip.MustParseAddr(v4)); got.String() != v6 {
			t.Errorf("%s became %v, want %s", v4, got, v6)
		}
	}
	for v6, v4 := range map[string]string{
		"2001:db8:8:909:900::": "20.9.9.9", "2001:db8:8:109::": "20.1.2.9", "2001:db8:16:0:909::": "20.1.9.9", "2001:db8:32::3": "20.1.2.3",
	} {
		if got := map4(t, r, netip.MustParseAddr(v6)); got.String() != v4 {
			t.Errorf("%s became %v, want %s", v6, got, v4)
		}
	}
}

// mapEAM is the definition of RFC 7757 section 3.3 without any thought for speed.
func mapEAM(table []siit.EAM, a netip.Addr) (netip.Addr, bool) {
	best, from, to := -1, netip.Prefix{}, netip.Prefix{}
	for _, e := range table {
		f, x := e.IPv4, e.IPv6
		if a.Is6() {
			f, x = x, f
		}
		if f.Contains(a) && f.Bits() > best {
			best, from, to = f.Bits(), f, x
		}
	}
	if best < 0 {
		return a, false
	}
	bit := func(a netip.Addr, n int) bool { b := a.AsSlice(); return n < len(b)*8 && b[n/8]&(0x80>>(n%8)) != 0 }
	out := to.Masked().Addr().AsSlice()
	for i := 0; to.Bits()+i < len(out)*8; i++ {
		if bit(a, from.Bits()+i) {
			out[(to.Bits()+i)/8] |= 0x80 >> ((to.Bits() + i) % 8)
		}
	}
	r, _ := netip.AddrFromSlice(out)
	return r, true
}

// TestEAMManyHosts is a router with a table of a thousand entries, nested at
// random.
func TestEAMManyHosts(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7757, 2))
	var table []siit.EAM
	used := map[netip.Prefix]bool{}
	for len(table) < 1000 {
		var a4 [4]byte
		binary.BigEndian.PutUint32(a4[:], 20<<24|rnd.Uint32()&0x03ffff)
		var a6 [16]byte
		binary.BigEndian.PutUint64(a6[:], 0x20010db9_00000000|rnd.Uint64()&0xffff)
		binary.BigEndian.PutUint64(a6[8:], rnd.Uint64()&rnd.Uint64()&rnd.Uint64())
		suffix := rnd.IntN(15)
		e := siit.EAM{
			IPv4: netip.PrefixFrom(netip.AddrFrom4(a4), 32-suffix).Masked(),
			IPv6: netip.PrefixFrom(netip.AddrFrom16(a6), 128-suffix-rnd.IntN(70)).Masked(),
		}
		if !used[e.IPv4] && !used[e.IPv6] {
			used[e.IPv4], used[e.IPv6] = true, true
			table = append(table, e)
		}
	}
	cfg := routerConfig(table...)
	r := newRig(t, cfg)
	check := func(a netip.Addr) {
		t.Helper()
		want, ok := mapEAM(table, a)
		var got netip.Addr
		if a.Is4() {
			if !ok {
				want = embed(pref64, a)
			}
			got = map6(t, r, a)
		} else {
			got = map4(t, r, a)
		}
		if got != want {
			t.Errorf("%v became %v, want %v", a, got, want)
		}
	}
	last := func(p netip.Prefix) netip.Addr {
		b := p.Masked().Addr().AsSlice()
		for i := p.Bits(); i < len(b)*8; i++ {
			b[i/8] |= 0x80 >> (i % 8)
		}
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	for _, e := range table {
		check(e.IPv4.Addr())
		check(last(e.IPv4))
		check(last(e.IPv4).Next())
		check(e.IPv6.Addr())
		check(last(e.IPv6))
		if _, ok := mapEAM(table, last(e.IPv6).Next()); ok {
			check(last(e.IPv6).Next())
		}
	}
}

// TestEAMWholeSpace: prefixes at the ends of the address spaces.
func TestEAMWholeSpace(t *testing.T) {
	r := newRig(t, routerConfig(eam("0.0.0.0/0", "2001:db8:9::/96"), eam("192.0.0.0/2", "e000::/3"), eam("223.255.255.255/32", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/128")))
	for _, c := range []struct{ v4, v6 string }{
		{"1.0.0.0", "2001:db8:9::100:0"}, {"191.255.255.255", "2001:db8:9::bfff:ffff"},
		{"200.0.0.1", "e400:0:8000::"}, {"223.255.255.254", "efff:ffff::"}, {"223.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"},
	} {
		a := netip.MustParseAddr(c.v4)
		want, _ := mapEAM(r.cfg.Mapping.EAM, a)
		if got := map6(t, r, a); got != want || got.String() != c.v6 {
			t.Errorf("%s became %v, want %s", c.v4, got, c.v6)
		}
	}
	if got := map4(t, r, netip.MustParseAddr("2001:db8:9::203.0.113.77")); got.String() != "203.0.113.77" {
		t.Errorf("2001:db8:9::203.0.113.77 became %v", got)
	}
}

// TestEAMHost is a CLAT that also serves hosts of a table.
func TestEAMHost(t *testing.T) {
	cfg := hostConfig()
	cfg.Mapping.EAM = []siit.EAM{eam("192.0.2.0/28", "2001:db8:cccc::/124")}
	r := newRig(t, cfg)
	guest4, guest6 := netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("2001:db8:cccc::5")
	p := mustParse(t, r.run(t, ip4{src: guest4, payload: udp(guest4, remote4, data(8))}.bytes(), siit.Offload{}).one(t))
	if p.src != guest6 || p.dst != remote6 {
		t.Errorf("%v > %v", p.src, p.dst)
	}
	p = mustParse(t, r.run(t, ip6{dst: guest6, payload: udp(remote6, guest6, data(8))}.bytes(), siit.Offload{}).one(t))
	if p.src != remote4 || p.dst != guest4 {
		t.Errorf("%v > %v", p.src, p.dst)
	}
	p = mustParse(t, r.run(t, udp4(100, true), siit.Offload{}).one(t))
	if p.src != clat6 || p.dst != remote6 {
		t.Errorf("%v > %v", p.src, p.dst)
	}
	stranger := netip.MustParseAddr("192.0.2.16")
	r.run(t, ip4{src: stranger, payload: udp(stranger, remote4, data(8))}.bytes(), siit.Offload{}).dropped(t, siit.SourceNotOurs)
	stranger = netip.MustParseAddr("2001:db8:cccc::10")
	r.run(t, ip6{dst: stranger, payload: udp(remote6, stranger, data(8))}.bytes(), siit.Offload{}).dropped(t, siit.DestinationNotOurs)
	// the quoted addresses, too.
	quote := ip6{src: guest6, dst: remote6, payload: udp(guest6, remote6, data(20))}.bytes()
	in := ip6{src: native6, dst: guest6, proto: protoICMPv6, payload: icmp6(native6, guest6, 2, 0, 1400, quote)}.bytes()
	q := mustParseQuote(t, r.run(t, in, siit.Offload{}).one(t))
	if q.src != guest4 || q.dst != remote4 {
		t.Errorf("quoted %v > %v", q.src, q.dst)
	}
	// An error for one of our hosts about a packet of the other is not ours.
	in = ip6{src: native6, dst: clat6, proto: protoICMPv6, payload: icmp6(native6, clat6, 2, 0, 1400, quote)}.bytes()
	if o := r.run(t, in, siit.Offload{}); o.verdict == siit.Translated {
		t.Logf("an error to the CLAT about a guest's packet was translated")
	}
}
