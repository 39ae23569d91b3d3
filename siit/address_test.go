package siit_test

import (
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// RFC 6052 addresses and the configuration.

var tableA5 = []struct{ prefix, first, second string }{
	{"2001:db8::/32", "2001:db8:c000:221::", "2001:db8:c633:6407::"},
	{"2001:db8:100::/40", "2001:db8:1c0:2:21::", "2001:db8:1c6:3364:7::"},
	{"2001:db8:122::/48", "2001:db8:122:c000:2:2100::", "2001:db8:122:c633:64:700::"},
	{"2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::", "2001:db8:122:3c6:33:6407::"},
	{"2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100:0", "2001:db8:122:344:c6:3364:700:0"},
	{"2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33", "2001:db8:122:344::c633:6407"},
	{"64:ff9b::/96", "64:ff9b::192.0.2.33", "64:ff9b::c633:6407"},
}

// map6 is what the translator makes of the destination a of an IPv4 packet.
func map6(t *testing.T, r *rig, a netip.Addr) netip.Addr {
	t.Helper()
	src := netip.MustParseAddr("203.0.113.5")
	return mustParse(t, r.run(t, ip4{src: src, dst: a, payload: udp(src, a, data(8))}.bytes(), siit.Offload{}).one(t)).dst
}

// map4 is what it makes of the source a of an IPv6 packet.
func map4(t *testing.T, r *rig, a netip.Addr) netip.Addr {
	t.Helper()
	dst := embed(r.cfg.Mapping.PREF64, netip.MustParseAddr("203.0.113.5"))
	return mustParse(t, r.run(t, ip6{src: a, dst: dst, payload: udp(a, dst, data(8))}.bytes(), siit.Offload{}).one(t)).src
}

func TestPrefixTable(t *testing.T) {
	for _, c := range tableA5 {
		t.Run(c.prefix, func(t *testing.T) {
			cfg := routerConfig()
			cfg.Mapping.PREF64 = netip.MustParsePrefix(c.prefix)
			r := newRig(t, cfg)
			for v4, v6 := range map[string]string{"192.0.2.33": c.first, "198.51.100.7": c.second} {
				a4, a6 := netip.MustParseAddr(v4), netip.MustParseAddr(v6)
				if got := map6(t, r, a4); got != a6 {
					t.Errorf("%v became %v, want %v", a4, got, a6)
				}
				if got := map4(t, r, a6); got != a4 {
					t.Errorf("%v became %v, want %v", a6, got, a4)
				}
				if cfg.Mapping.PREF64.Bits() == 96 {
					continue
				}
				// the suffix, where there is one, is ignored.
				b := a6.As16()
				for at := cfg.Mapping.PREF64.Bits()/8 + 5; at < 16; at++ {
					b[at] = 0xa5
				}
				if got := map4(t, r, netip.AddrFrom16(b)); got != a4 {
					t.Errorf("%v became %v, want %v", netip.AddrFrom16(b), got, a4)
				}
			}
		})
	}
}

// TestPrefixBits holds the mapping against the table of RFC 6052 section 2.2, as embed and
// extract of the tests have it, bit by bit.
func TestPrefixBits(t *testing.T) {
	for _, bits := range []int{32, 40, 48, 56, 64, 96} {
		cfg := routerConfig()
		// whatever the prefix has beyond its length does not count.
		cfg.Mapping.PREF64 = netip.PrefixFrom(netip.MustParseAddr("2001:db8:1234:5678:ff:ffff:ffff:ffff"), bits)
		if bits == 96 {
			cfg.Mapping.PREF64 = netip.PrefixFrom(netip.MustParseAddr("2001:db8:1234:5678:9a:bcde:ffff:ffff"), bits)
		}
		r := newRig(t, cfg)
		masked := cfg.Mapping.PREF64.Masked()
		for bit := range 32 {
			v := [4]byte{100, 64, 0, 1}
			v[bit/8] ^= 0x80 >> (bit % 8)
			a := netip.AddrFrom4(v)
			if a.IsMulticast() || v[0] >= 224 {
				continue
			}
			want := embed(masked, a)
			if got := map6(t, r, a); got != want {
				t.Errorf("/%d: %v became %v, want %v", bits, a, got, want)
			}
			if got := map4(t, r, want); got != a {
				t.Errorf("/%d: %v became %v, want %v", bits, want, got, a)
			}
			if u := want.As16()[8]; bits < 96 && u != 0 {
				t.Errorf("octet u is %#x", u)
			}
		}
		// An address that differs in the last bit of the prefix is outside.
		b := embed(masked, remote4).As16()
		b[bits/8-1] ^= 1
		outside := netip.AddrFrom16(b)
		dst := embed(masked, netip.MustParseAddr("203.0.113.5"))
		o := r.run(t, ip6{src: outside, dst: dst, payload: udp(outside, dst, data(8))}.bytes(), siit.Offload{})
		if o.reason != siit.SourceOutsidePREF64 {
			t.Errorf("/%d: %v: %v", bits, outside, o)
		}
	}
}

func TestPrivateBehindWellKnownPrefix(t *testing.T) {
	private := []string{"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255"}
	public := []string{"9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "100.63.255.255", "100.128.0.0", "8.8.8.8"}
	wkp := hostConfig()
	wkp.Mapping.PREF64 = netip.MustParsePrefix("64:ff9b::/96")
	try := func(r *rig, v4 string, drop bool) {
		t.Helper()
		a := netip.MustParseAddr(v4)
		a6 := embed(r.cfg.Mapping.PREF64, a)
		for _, in := range [][]byte{
			ip4{dst: a, payload: udp(clat4, a, data(8))}.bytes(),
			ip6{src: a6, payload: udp(a6, clat6, data(8))}.bytes(),
		} {
			o := r.run(t, in, siit.Offload{})
			if drop {
				// with an ICMP error or without.
				if o.verdict == siit.Translated || o.reason != siit.WKPPrivate {
					t.Errorf("%v: %v", a, o)
				}
			} else {
				o.one(t)
			}
		}
	}
	allow := newRig(t, wkp) // the default
	wkp.DropWKPPrivate = true
	drop := newRig(t, wkp)
	nsp := hostConfig()
	nsp.DropWKPPrivate = true
	other := newRig(t, nsp)
	// local-use translation space is not the WKP.
	nsp.Mapping.PREF64 = netip.MustParsePrefix("64:ff9b:1::/96")
	local := newRig(t, nsp)
	for _, v4 := range private {
		try(allow, v4, false)
		try(drop, v4, true)
		try(other, v4, false)
		try(local, v4, false)
	}
	for _, v4 := range public {
		try(drop, v4, false)
	}
}

func TestConfigRefused(t *testing.T) {
	prefix := netip.MustParsePrefix
	for bits := range 129 {
		cfg := hostConfig()
		cfg.Mapping.PREF64 = netip.PrefixFrom(netip.MustParseAddr("2001:db8::"), bits)
		_, err := siit.New(cfg)
		switch bits {
		case 32, 40, 48, 56, 64, 96:
			if cfg.Mapping.CLAT.IPv6 = netip.MustParseAddr("3fff:aaaa::464"); err != nil && bits != 32 {
				t.Errorf("/%d: %v", bits, err)
			}
		default:
			if err == nil {
				t.Errorf("a PREF64 of /%d was accepted", bits)
			}
		}
	}
	for name, change := range map[string]func(c *siit.Config){
		"no PREF64":                 func(c *siit.Config) { c.Mapping.PREF64 = netip.Prefix{} },
		"IPv4 PREF64":               func(c *siit.Config) { c.Mapping.PREF64 = prefix("10.0.0.0/32") },
		"IPv4-mapped PREF64":        func(c *siit.Config) { c.Mapping.PREF64 = netip.PrefixFrom(netip.MustParseAddr("::ffff:0:0"), 96) },
		"CLAT without IPv6":         func(c *siit.Config) { c.Mapping.CLAT.IPv6 = netip.Addr{} },
		"CLAT without IPv4":         func(c *siit.Config) { c.Mapping.CLAT.IPv4 = netip.Addr{} },
		"CLAT the wrong way round":  func(c *siit.Config) { c.Mapping.CLAT = siit.Pair{IPv4: clat6, IPv6: clat4} },
		"CLAT IPv4-mapped":          func(c *siit.Config) { c.Mapping.CLAT.IPv6 = netip.MustParseAddr("::ffff:192.0.0.1") },
		"CLAT address in the table": func(c *siit.Config) { c.Mapping.EAM = []siit.EAM{eam("192.0.0.1/32", "2001:db8:cccc::1/128")} },
		"CLAT inside PREF64":        func(c *siit.Config) { c.Mapping.CLAT.IPv6 = remote6 },
		"suffix does not fit":       func(c *siit.Config) { c.Mapping.EAM = []siit.EAM{eam("192.0.2.0/24", "2001:db8:cccc::/121")} },
		"host for a network":        func(c *siit.Config) { c.Mapping.EAM = []siit.EAM{eam("192.0.2.0/31", "2001:db8:cccc::1/128")} },
		"EAM columns exchanged":     func(c *siit.Config) { c.Mapping.EAM = []siit.EAM{eam("2001:db8:cccc::/124", "192.0.2.0/28")} },
		"EAM IPv4-mapped": func(c *siit.Config) {
			c.Mapping.EAM = []siit.EAM{{IPv4: prefix("192.0.2.0/28"), IPv6: netip.PrefixFrom(netip.MustParseAddr("::ffff:192.0.2.0"), 124)}}
		},
		"EAM without IPv6":          func(c *siit.Config) { c.Mapping.EAM = []siit.EAM{{IPv4: prefix("192.0.2.0/28")}} },
		"EAM without IPv4":          func(c *siit.Config) { c.Mapping.EAM = []siit.EAM{{IPv6: prefix("2001:db8:cccc::/124")}} },
		"MTU6 1279":                 func(c *siit.Config) { c.MTU6 = 1279 },
		"MTU6 negative":             func(c *siit.Config) { c.MTU6 = -1 },
		"MTU4 negative":             func(c *siit.Config) { c.MTU4 = -1 },
		"MTU4 67":                   func(c *siit.Config) { c.MTU4 = 67 },
		"LowestIPv6MTU 1279":        func(c *siit.Config) { c.LowestIPv6MTU = 1279 },
		"ICMPSource4 is IPv6":       func(c *siit.Config) { c.ICMPSource4 = clat6 },
		"ICMPSource6 is IPv4":       func(c *siit.Config) { c.ICMPSource6 = clat4 },
		"hairpin mode out of range": func(c *siit.Config) { c.Mapping.Hairpin = 77 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := hostConfig()
			change(&cfg)
			if tr, err := siit.New(cfg); err == nil || tr != nil {
				t.Errorf("New: %v, %v", tr, err)
			}
		})
	}
	t.Run("just fits", func(t *testing.T) {
		newRig(t, routerConfig(eam("192.0.2.0/24", "2001:db8:cccc::/120"), eam("192.0.3.1/32", "2001:db8:cccc:1::1/128"), eam("20.0.0.0/8", "2001:db9::/104")))
	})
}
