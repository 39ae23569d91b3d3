package siit_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"tnat64d/siit"
)

// ICMPv4 to ICMPv6: RFC 7915 sections 4.2 and 4.3.

// codes4 is the error table of section 3: ICMPv4 type and code to ICMPv6.
var codes4 = map[[2]uint8][2]uint8{
	{3, 0}: {1, 0}, {3, 1}: {1, 0}, {3, 2}: {4, 1}, {3, 3}: {1, 4}, {3, 4}: {2, 0}, {3, 5}: {1, 0}, {3, 6}: {1, 0}, {3, 7}: {1, 0},
	{3, 8}: {1, 0}, {3, 9}: {1, 1}, {3, 10}: {1, 1}, {3, 11}: {1, 0}, {3, 12}: {1, 0}, {3, 13}: {1, 1}, {3, 15}: {1, 1},
	{11, 0}: {3, 0}, {11, 1}: {3, 1}, {12, 0}: {4, 0}, {12, 2}: {4, 0},
}

// pointers4 is the pointer table of section 3.
var pointers4 = map[uint8]uint32{0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6, 12: 8, 13: 8, 14: 8, 15: 8, 16: 24, 17: 24, 18: 24, 19: 24}

func TestICMPTypes4to6(t *testing.T) {
	r := newRig(t, hostConfig())
	for typ := range 256 {
		for code := range 256 {
			if code > 20 && code < 255 {
				continue
			}
			key := [2]uint8{uint8(typ), uint8(code)}
			o := r.run(t, error4(key[0], key[1], 0, received4(20)), siit.Offload{})
			want, translatable := codes4[key]
			switch {
			case typ == 8 && code == 0:
				want, translatable = [2]uint8{128, 0}, true
			case typ == 0 && code == 0:
				want, translatable = [2]uint8{129, 0}, true
			case (typ == 8 || typ == 0) && code > 0:
				continue // no such code; the RFC is silent
			case typ == 11 && code > 1:
				// The table says any code; RFC 792 knows two.
				want, translatable = [2]uint8{3, uint8(code)}, o.verdict == siit.Translated
			}
			if !translatable {
				if o.verdict != siit.Drop {
					t.Errorf("ICMPv4 %d/%d: %v", typ, code, o)
				}
				continue
			}
			p := mustParse(t, o.one(t))
			if got := [2]uint8(p.transport[:2]); got != want {
				t.Errorf("ICMPv4 %d/%d became %d/%d, want %d/%d", typ, code, got[0], got[1], want[0], want[1])
			}
			if rest := binary.BigEndian.Uint32(p.transport[4:]); want[0] != 2 && want != [2]uint8{4, 1} && rest != 0 {
				t.Errorf("ICMPv4 %d/%d: second word is %#x", typ, code, rest)
			}
		}
	}
}

func TestICMPPointers4to6(t *testing.T) {
	r := newRig(t, hostConfig())
	for _, code := range []uint8{0, 2} {
		for pointer := range 256 {
			// Bytes 5 to 7 are unused in 12/0 and 12/2; here they are not 0.
			in := error4(12, code, uint32(pointer)<<24, received4(20))
			want, ok := pointers4[uint8(pointer)]
			o := r.run(t, in, siit.Offload{})
			if !ok {
				o.dropped(t, siit.ICMPParameterUntranslatable)
				continue
			}
			if got := binary.BigEndian.Uint32(mustParse(t, o.one(t)).transport[4:]); got != want {
				t.Errorf("pointer %d became %d, want %d", pointer, got, want)
			}
		}
	}
}

func TestICMPMTU4to6(t *testing.T) {
	for _, c := range []struct {
		mtu6, mtu4 int
		word       uint32
		quoted     int // total length in the quoted header
		want       uint32
	}{
		{1500, 1480, 1400, 1480, 1420},
		{1500, 1480, 1260, 1480, 1280},
		{1500, 1480, 1261, 1480, 1281},
		{1500, 1480, 1479, 1480, 1499},
		{1500, 1480, 1480, 1480, 1500},
		{1500, 1480, 9000, 1480, 1500},
		{1500, 1480, 65535, 1480, 1500},
		{1500, 1480, 1, 1480, 1280},
		{1500, 1300, 1400, 1480, 1320},            // mtu4 + 20 is the least
		{1400, 1480, 1400, 1480, 1400},            // mtu6 is the least
		{9000, 8980, 2000, 8980, 2020},            //
		{9000, 8980, 0, 8980, 8186},               // 8166 + 20
		{9000, 8980, 0, 8166, 4372},               // strictly less
		{9000, 8980, 0, 8167, 8186},               //
		{9000, 8980, 0, 4352, 2022},               //
		{9000, 8980, 0, 2002, 1512},               // 1492 + 20
		{9000, 8980, 0, 1493, 1512},               //
		{9000, 8980, 0, 1492, 1280},               // 1006 is below 1280
		{1500, 1480, 0, 65535, 1500},              // 32000 + 20, but mtu6
		{65535, 65515, 0, 65535, 32020},           //
		{1500, 1480, 0x20<<16 | 1400, 1480, 1420}, // byte 5 is a length
		{1500, 1480, 0xffff0000 | 1400, 1480, 1420},
		{9000, 8980, 0xffff0000, 4352, 2022},
	} {
		name := fmt.Sprintf("mtu6=%d mtu4=%d word=%#x quoted=%d", c.mtu6, c.mtu4, c.word, c.quoted)
		t.Run(name, func(t *testing.T) {
			cfg := hostConfig()
			cfg.MTU6, cfg.MTU4 = c.mtu6, c.mtu4
			quote := received4(20)[:28]
			binary.BigEndian.PutUint16(quote[2:], uint16(c.quoted))
			fixIPv4Checksum(quote)
			out := translate(t, cfg, error4(3, 4, c.word, quote)).one(t)
			if got := binary.BigEndian.Uint32(out[44:]); got != c.want {
				t.Errorf("MTU %d, want %d", got, c.want)
			}
		})
	}
}

// TestICMPQuote4to6: the quoted packet has to look to its sender like the one
// it sent. Here the sender's packet is translated first, received by the host,
// and quoted by the host in full or in part.
func TestICMPQuote4to6(t *testing.T) {
	plat := ip6{src: remote6, dst: clat6, hop: 61, tc: 0x2e}
	mk := func(proto uint8, payload []byte, ext ...extension) []byte {
		p := plat
		p.proto, p.payload, p.ext = proto, payload, ext
		return p.bytes()
	}
	for name, cfg := range map[string]siit.Config{"": hostConfig(), " neutral": neutralConfig()} {
		r := newRig(t, cfg)
		plat.src, plat.dst = embed(cfg.Mapping.PREF64, remote4), cfg.Mapping.CLAT.IPv6
		for _, c := range []struct {
			name string
			sent []byte
		}{
			{"UDP", mk(protoUDP, udp(plat.src, plat.dst, data(33)))},
			{"UDP large", mk(protoUDP, udp(plat.src, plat.dst, data(1300)))},
			{"TCP", mk(protoTCP, tcp(plat.src, plat.dst, 0x18, []byte{1, 1, 1, 0}, data(41)))},
			{"echo", mk(protoICMPv6, icmp6(plat.src, plat.dst, 128, 0, 0x12340007, data(56)))},
			{"ESP", mk(protoESP, data(40))},
			{"first fragment", mk(protoUDP, udp(plat.src, plat.dst, data(72)), fragment(0x4321, 0, true))},
			{"later fragment", mk(protoUDP, data(80), fragment(0x4321, 1232, false))},
		} {
			t.Run(c.name+name, func(t *testing.T) {
				received := r.run(t, c.sent, siit.Offload{}).one(t)
				for _, n := range []int{28, 28 + 8, 28 + 10, 28 + 12, 28 + 20, len(received)} {
					quote := received[:min(n, len(received))]
					out := r.run(t, error4(3, 3, 0, quote), siit.Offload{}).one(t)
					got, want := out[48:], bytes.Clone(c.sent)
					want[7]-- // as received, after one decrement, not two
					if !bytes.HasPrefix(want, got) {
						t.Errorf("quote of %d:\n got %x\nwant %x", n, got, want[:min(len(want), len(got)+4)])
					}
					if grown := len(received) - 20; len(got) != len(want)-(grown-(len(quote)-20)) && len(out) < 1280 {
						t.Errorf("quote of %d became %d", n, len(got))
					}
				}
			})
		}
	}
}

func TestICMPQuoteLimits4to6(t *testing.T) {
	r := newRig(t, hostConfig())
	t.Run("truncated to 1280", func(t *testing.T) {
		for _, n := range []int{1100, 1175, 1176, 1177, 1184, 1185, 1204, 1300, 1400} {
			out := r.run(t, error4(3, 3, 0, received4(n)), siit.Offload{}).one(t)
			want := min(1280, 40+8+40+8+n)
			if len(out) != want && (len(out) > 1280 || len(out) < 1272) {
				t.Errorf("payload of %d: ICMPv6 error of %d bytes, want %d", n, len(out), want)
			}
			if q := mustParseQuote(t, out); q.src != remote6 {
				t.Errorf("quoted source %v", q.src)
			}
			if got := int(binary.BigEndian.Uint16(out[48+4:])); got != 8+n {
				t.Errorf("quoted payload length %d, want %d", got, 8+n)
			}
		}
	})
	t.Run("too short a quote", func(t *testing.T) {
		for n := range 28 {
			o := r.run(t, error4(3, 3, 0, received4(20)[:n]), siit.Offload{})
			if n < 20 {
				o.dropped(t, siit.ICMPErrorMalformed)
			}
		}
	})
	t.Run("quotes that cannot be read", func(t *testing.T) {
		for name, change := range map[string]func(q []byte){
			"version":                   func(q []byte) { q[0] = 0x65 },
			"IHL 4":                     func(q []byte) { q[0] = 0x44 },
			"IHL 15":                    func(q []byte) { q[0] = 0x4f },
			"total length below header": func(q []byte) { q[2], q[3] = 0, 19 },
		} {
			q := received4(20)[:40]
			change(q)
			if o := r.run(t, error4(3, 3, 0, q), siit.Offload{}); o.verdict != siit.Drop {
				t.Errorf("%s: %v", name, o)
			}
		}
	})
	t.Run("quotes that have no counterpart", func(t *testing.T) {
		quoted := func(p ip4) []byte {
			p.src, p.dst = remote4, clat4
			return error4(11, 0, 0, p.bytes())
		}
		for name, in := range map[string][]byte{
			"ICMP fragment":   quoted(ip4{proto: protoICMP, mf: true, payload: icmp4(8, 0, 1, data(64))}),
			"later fragment":  quoted(ip4{proto: protoICMP, offset: 64, payload: data(64)}),
			"ICMP timestamp":  quoted(ip4{proto: protoICMP, payload: icmp4(13, 0, 1, data(12))}),
			"ICMPv6":          quoted(ip4{proto: protoICMPv6, payload: data(64)}),
			"Fragment Header": quoted(ip4{proto: protoFragment, payload: data(64)}),
			"not to us":       error4(11, 0, 0, ip4{src: remote4, dst: remote4, payload: udp(remote4, remote4, data(20))}.bytes()),
		} {
			if o := r.run(t, in, siit.Offload{}); o.verdict != siit.Drop {
				t.Errorf("%s: %v", name, o)
			}
		}
	})
	t.Run("every nested error", func(t *testing.T) {
		for _, typ := range []uint8{3, 4, 5, 11, 12} {
			inner := ip4{src: remote4, dst: clat4, proto: protoICMP, payload: icmp4(typ, 0, 0, received4(8))}.bytes()
			if o := r.run(t, error4(3, 3, 0, inner), siit.Offload{}); o.verdict != siit.Drop {
				t.Errorf("quoted ICMPv4 type %d: %v", typ, o)
			}
		}
	})
}
