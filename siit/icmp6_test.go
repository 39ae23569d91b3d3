package siit_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// ICMPv6 to ICMPv4: RFC 7915 sections 5.2 and 5.3.

// codes6 is the error table of section 6: ICMPv6 type and code to ICMPv4.
var codes6 = map[[2]uint8][2]uint8{
	{1, 0}: {3, 1}, {1, 1}: {3, 10}, {1, 2}: {3, 1}, {1, 3}: {3, 1}, {1, 4}: {3, 3},
	{4, 0}: {12, 0}, {4, 1}: {3, 2},
}

// pointer6 is the pointer table of section 6.
func pointer6(p uint32) (uint8, bool) {
	switch {
	case p == 0 || p == 1:
		return uint8(p), true
	case p == 4 || p == 5:
		return 2, true
	case p == 6:
		return 9, true
	case p == 7:
		return 8, true
	case p >= 8 && p <= 23:
		return 12, true
	case p >= 24 && p <= 39:
		return 16, true
	}
	return 0, false
}

func TestICMPTypes6to4(t *testing.T) {
	r := newRig(t, hostConfig())
	for typ := range 256 {
		for code := range 256 {
			if code > 20 && code < 255 {
				continue
			}
			key := [2]uint8{uint8(typ), uint8(code)}
			word := uint32(0)
			if typ == 2 {
				word = 1400
			}
			o := r.run(t, error6(remote6, key[0], key[1], word, sent6(20)), siit.Offload{})
			want, translatable := codes6[key]
			switch {
			case typ == 2: // any code
				want, translatable = [2]uint8{3, 4}, true
			case typ == 3: // "The Code is unchanged"
				want, translatable = [2]uint8{11, key[1]}, true
			case typ == 128 && code == 0:
				want, translatable = [2]uint8{8, 0}, true
			case typ == 129 && code == 0:
				want, translatable = [2]uint8{0, 0}, true
			case typ == 128 || typ == 129:
				continue // no such code; the RFC is silent
			}
			if !translatable {
				if o.verdict != siit.Drop {
					t.Errorf("ICMPv6 %d/%d: %v", typ, code, o)
				}
				continue
			}
			p := mustParse(t, o.one(t))
			if got := [2]uint8(p.transport[:2]); got != want {
				t.Errorf("ICMPv6 %d/%d became %d/%d, want %d/%d", typ, code, got[0], got[1], want[0], want[1])
			}
			if rest := binary.BigEndian.Uint32(p.transport[4:]); typ != 2 && rest != 0 {
				t.Errorf("ICMPv6 %d/%d: second word is %#x", typ, code, rest)
			}
		}
	}
	t.Run("4/1 has no pointer in ICMPv4", func(t *testing.T) {
		out := r.run(t, error6(remote6, 4, 1, 40, sent6(20)), siit.Offload{}).one(t)
		if word := binary.BigEndian.Uint32(out[24:]); out[20] != 3 || out[21] != 2 || word != 0 {
			t.Errorf("ICMPv4 %d/%d, second word %#x", out[20], out[21], word)
		}
	})
}

func TestICMPPointers6to4(t *testing.T) {
	r := newRig(t, hostConfig())
	pointers := []uint32{255, 256, 256 + 6, 0x06000000, 0x10000, 0xffffffff}
	for p := range uint32(64) {
		pointers = append(pointers, p)
	}
	for _, pointer := range pointers {
		o := r.run(t, error6(remote6, 4, 0, pointer, sent6(20)), siit.Offload{})
		want, ok := pointer6(pointer)
		if !ok {
			o.dropped(t, siit.ICMPParameterUntranslatable)
			continue
		}
		if got := binary.BigEndian.Uint32(o.one(t)[24:]); got != uint32(want)<<24 {
			t.Errorf("pointer %d became %#x, want %d in the first byte", pointer, got, want)
		}
	}
}

func TestICMPMTU6to4(t *testing.T) {
	for _, c := range []struct {
		mtu6, mtu4 int
		word, want uint32
	}{
		{1500, 1480, 1400, 1380}, {1500, 1480, 1280, 1260}, {1500, 1480, 1500, 1480}, {1500, 1480, 1501, 1480}, {1500, 1480, 65535, 1480},
		{1500, 1480, 65536, 1480}, {1500, 1480, 65536 + 1400, 1480}, {1500, 1480, 0xffffffff, 1480},
		{1500, 1300, 1400, 1300}, {1400, 1480, 1500, 1380}, {9000, 8980, 8999, 8979}, {1500, 1000, 1400, 1000},
	} {
		t.Run(fmt.Sprintf("mtu6=%d mtu4=%d word=%d", c.mtu6, c.mtu4, c.word), func(t *testing.T) {
			cfg := hostConfig()
			cfg.MTU6, cfg.MTU4 = c.mtu6, c.mtu4
			out := translate(t, cfg, error6(remote6, 2, 0, c.word, sent6(20))).one(t)
			if got := binary.BigEndian.Uint32(out[24:]); got != c.want {
				t.Errorf("second word %#x, want MTU %d", got, c.want)
			}
		})
	}
	t.Run("below 1280", func(t *testing.T) {
		r := newRig(t, hostConfig())
		for _, mtu := range []uint32{0, 1, 68, 576, 1260, 1279} {
			for _, from := range []netip.Addr{remote6, native6} {
				r.run(t, error6(from, 2, 0, mtu, sent6(20)), siit.Offload{}).dropped(t, siit.ICMPErrorMTUTooSmall)
			}
		}
	})
}

// TestICMPQuote6to4: what an ICMPv6 error quotes has to look to the
// host like what it sent.
func TestICMPQuote6to4(t *testing.T) {
	mk := func(proto uint8, payload []byte) ip4 {
		return ip4{id: 0x4321, tos: 0xb8, ttl: 33, proto: proto, payload: payload}
	}
	first, later := mk(protoUDP, udp(clat4, remote4, data(72))), mk(protoUDP, data(80))
	first.mf, later.offset = true, 1232
	for name, cfg := range map[string]siit.Config{"": hostConfig(), " neutral": neutralConfig()} {
		r := newRig(t, cfg)
		for _, c := range []struct {
			name string
			sent ip4
		}{
			{"UDP", mk(protoUDP, udp(clat4, remote4, data(33)))},
			{"UDP 1228", mk(protoUDP, udp(clat4, remote4, data(1232-8)))},
			{"UDP large", mk(protoUDP, udp(clat4, remote4, data(1400)))},
			{"TCP", mk(protoTCP, tcp(clat4, remote4, 0x18, []byte{1, 1, 1, 0}, data(41)))},
			{"echo", mk(protoICMP, icmp4(8, 0, 0x12340007, data(56)))},
			{"ESP", mk(protoESP, data(40))},
			{"first fragment", first},
			{"later fragment", later},
		} {
			t.Run(c.name+name, func(t *testing.T) {
				c.sent.df = !c.sent.mf && c.sent.offset == 0
				sent := c.sent.bytes()
				sent6 := r.run(t, sent, siit.Offload{}).one(t)
				dst := cfg.Mapping.CLAT.IPv6
				for hop := range 3 { // the hop limit is quoted as it is
					sent6[7] = byte(hop)
					for _, n := range []int{48, 56, 58, 60, 80, len(sent6)} {
						quote := sent6[:min(n, len(sent6), 1232)]
						in := ip6{src: native6, dst: dst, proto: protoICMPv6, payload: icmp6(native6, dst, 3, 0, 0, quote)}.bytes()
						out := r.run(t, in, siit.Offload{}).one(t)
						got := out[28:]
						want := bytes.Clone(sent)
						want[8] = byte(hop)
						if c.sent.df {
							// the identification is lost, DF goes by size.
							want[4], want[5] = 0, 0
						}
						if len(want) <= 1260 {
							want[6] &^= 0x40
						}
						fixIPv4Checksum(want)
						if !bytes.HasPrefix(want, got) || len(got) != len(sent)-(len(sent6)-len(quote)) {
							t.Fatalf("hop limit %d, quote of %d:\n got %x\nwant %x", hop, len(quote), got, want)
						}
					}
				}
			})
		}
	}
}

func TestICMPQuoteRefused6to4(t *testing.T) {
	r := newRig(t, hostConfig())
	other := netip.MustParseAddr("2001:db8:aaaa::465")
	quote := func(src, dst netip.Addr) []byte {
		return ip6{src: src, dst: dst, hop: 5, payload: udp(src, dst, data(20))}.bytes()
	}
	for _, typ := range []uint8{1, 2, 3} {
		for _, from := range []netip.Addr{remote6, native6} {
			for _, c := range []struct {
				name  string
				quote []byte
			}{
				{"source is not the CLAT", quote(other, remote6)},
				{"destination is native", quote(clat6, native6)},
				{"the wrong way round", quote(remote6, clat6)},
			} {
				t.Run(fmt.Sprintf("type %d from %v, %s", typ, from, c.name), func(t *testing.T) {
					r.run(t, error6(from, typ, 0, 1400, c.quote), siit.Offload{}).dropped(t, siit.ICMPErrorNotOurs)
				})
			}
		}
	}
	t.Run("every nested error", func(t *testing.T) {
		for typ := range uint8(138) {
			if typ >= 128 && typ < 137 {
				continue
			}
			inner := ip6{src: clat6, dst: remote6, proto: protoICMPv6, payload: icmp6(clat6, remote6, typ, 0, 0, data(48))}.bytes()
			if o := r.run(t, error6(remote6, 1, 4, 0, inner), siit.Offload{}); o.verdict != siit.Drop {
				t.Errorf("quoted ICMPv6 type %d: %v", typ, o)
			}
		}
	})
	t.Run("quotes that have no counterpart", func(t *testing.T) {
		quoted := func(p ip6) []byte {
			p.src, p.dst = clat6, remote6
			return error6(remote6, 3, 0, 0, p.bytes())
		}
		long := ip6{src: clat6, dst: remote6, proto: protoESP, payload: data(64)}.bytes()
		long[4], long[5] = 0xff, 0xff // does not fit an IPv4 packet
		for name, in := range map[string][]byte{
			"ICMPv6 fragment": quoted(ip6{proto: protoICMPv6, ext: []extension{fragment(3, 0, true)}, payload: icmp6(clat6, remote6, 128, 0, 1, data(56))}),
			"later fragment":  quoted(ip6{proto: protoICMPv6, ext: []extension{fragment(3, 64, false)}, payload: data(64)}),
			"ND":              quoted(ip6{proto: protoICMPv6, payload: icmp6(clat6, remote6, 135, 0, 0, data(24))}),
			"ICMPv4":          quoted(ip6{proto: protoICMP, payload: data(64)}),
			"65535 bytes":     error6(remote6, 3, 0, 0, long),
		} {
			if o := r.run(t, in, siit.Offload{}); o.verdict != siit.Drop {
				t.Errorf("%s: %v", name, o)
			}
		}
	})
	t.Run("quotes that cannot be read", func(t *testing.T) {
		for n := range 40 {
			r.run(t, error6(remote6, 1, 4, 0, sent6(20)[:n]), siit.Offload{}).dropped(t, siit.ICMPErrorMalformed)
		}
		q := sent6(20)
		q[0] = 0x45
		r.run(t, error6(remote6, 1, 4, 0, q), siit.Offload{}).dropped(t, siit.ICMPErrorMalformed)
	})
	t.Run("extension headers in the quote", func(t *testing.T) {
		q := ip6{src: clat6, dst: remote6, hop: 5, ext: []extension{options(protoDestOpts, 2), fragment(0x4321, 0, true)}, payload: udp(clat6, remote6, data(24))}.bytes()
		p := mustParseQuote(t, r.run(t, error6(remote6, 1, 4, 0, q), siit.Offload{}).one(t))
		if p.id != 0x4321 || !p.more || p.proto != protoUDP || len(p.transport) != 32 {
			t.Errorf("%+v", p)
		}
		// A chain that the quote cuts short says nothing about the socket.
		for n := 41; n < 40+16+8; n++ {
			if o := r.run(t, error6(remote6, 1, 4, 0, q[:n]), siit.Offload{}); o.verdict == siit.Translated {
				mustParseQuote(t, o.one(t))
			}
		}
	})
}

func TestUnmappableSources(t *testing.T) {
	r := newRig(t, hostConfig())
	for _, from := range []string{"2001:db8:ffff::1", "fd00::1", "2002::1", "fe80::1", "2001:db8:122:345::c633:6407", "64:ff9b::c633:6407"} {
		src := netip.MustParseAddr(from)
		for _, typ := range []uint8{1, 2, 3} {
			o := r.run(t, error6(src, typ, 0, 1400, sent6(40)), siit.Offload{})
			if p := mustParse(t, o.one(t)); p.src != dummy4 || p.dst != clat4 {
				t.Errorf("type %d from %v: %v > %v", typ, src, p.src, p.dst)
			}
		}
		for _, typ := range []uint8{128, 129} {
			in := ip6{src: src, proto: protoICMPv6, payload: icmp6(src, clat6, typ, 0, 7, data(8))}.bytes()
			r.run(t, in, siit.Offload{}).dropped(t, siit.SourceOutsidePREF64)
		}
	}
	t.Run("router", func(t *testing.T) {
		// A router's errors about translated packets come from anywhere, too.
		router := newRig(t, routerConfig())
		other4 := netip.MustParseAddr("203.0.113.5")
		other6 := embed(pref64, other4)
		quote := ip6{src: other6, dst: remote6, hop: 5, payload: udp(other6, remote6, data(20))}.bytes()
		in := ip6{src: native6, dst: other6, proto: protoICMPv6, payload: icmp6(native6, other6, 3, 0, 0, quote)}.bytes()
		p := mustParse(t, router.run(t, in, siit.Offload{}).one(t))
		if p.src != dummy4 || p.dst != other4 {
			t.Errorf("%v > %v", p.src, p.dst)
		}
	})
	t.Run("bad checksums are not repaired", func(t *testing.T) {
		for at := 40; at < 60; at++ {
			in := error6(native6, 2, 0, 1400, sent6(40))
			in[at] ^= 0x10
			o := r.run(t, in, siit.Offload{})
			if o.verdict == siit.Translated {
				if transportState(mustParse(t, o.one(t)), siit.Offload{}) != sumWrong {
					t.Errorf("byte %d: the damage was repaired", at)
				}
			}
		}
	})
}
