package siit_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// An ICMPv4 error grows into one that is cut to 1280 bytes, so DF must not
// decide whether it is translated (RFC 7915 section 4.2, RFC 4443 section 2.4 c).
func TestICMPErrorWithDF(t *testing.T) {
	for _, mtu := range []struct{ mtu6, lowest int }{{1280, 1280}, {1500, 1280}, {1500, 1500}, {9000, 1280}, {65535, 65535}} {
		cfg := hostConfig()
		cfg.MTU6, cfg.MTU4, cfg.LowestIPv6MTU = mtu.mtu6, mtu.mtu6-20, mtu.lowest
		r := newRig(t, cfg)
		for _, n := range []int{56, 576, 1240, 1260, 1261, 1280, 1281, 1480, 1481, 1500, 1501, 8980, 8981, 9000, 9001, 65515, 65535} {
			for _, code := range []struct {
				kind, code uint8
				word       uint32
			}{{3, 3, 0}, {3, 4, 1400}, {11, 0, 0}, {12, 0, 8 << 24}} {
				in := func(df bool) []byte {
					return ip4{df: df, proto: protoICMP, payload: icmp4(code.kind, code.code, code.word, received4(n-56))}.bytes()
				}
				name := fmt.Sprintf("MTU %d lowest %d: ICMPv4 %d/%d of %d bytes", mtu.mtu6, mtu.lowest, code.kind, code.code, n)
				want := r.run(t, in(false), siit.Offload{}).one(t)
				if wanted := min(1280, n+40); len(want) != wanted {
					t.Errorf("%s: became %d bytes, want %d", name, len(want), wanted)
				}
				o := r.run(t, in(true), siit.Offload{})
				if n > mtu.mtu6 {
					o.dropped(t, siit.TooBig) // it does not even fit as it stands
					continue
				}
				if got := o.one(t); !bytes.Equal(got, want) {
					t.Errorf("%s: with DF it became\n     %x\nnot  %x", name, got, want)
				}
			}
		}
	}
}

// The quoted packet is translated like any other, so an address that no packet
// may have is a reason to drop (RFC 7915 sections 4.1, 4.3, 5.1 and 5.3).
func TestICMPErrorQuotesIllegalAddress(t *testing.T) {
	legal := []string{"1.0.0.0", "126.255.255.255", "128.0.0.1", "223.255.255.255", "10.1.2.3"}
	illegal := []string{
		"0.0.0.0", "0.1.2.3", "0.255.255.255", "127.0.0.1", "127.255.255.255", "224.0.0.1", "239.255.255.255",
		"240.0.0.1", "254.1.2.3", "255.255.255.255",
	}
	host, router := newRig(t, hostConfig()), newRig(t, routerConfig())
	check := func(t *testing.T, r *rig, in []byte, dropped bool) {
		t.Helper()
		o := r.run(t, in, siit.Offload{})
		if dropped {
			o.dropped(t, siit.ICMPErrorNotOurs)
			return
		}
		o.one(t)
	}
	peer := netip.MustParseAddr("203.0.113.5")
	for i, a := range append(legal, illegal...) {
		bad := i >= len(legal)
		a := netip.MustParseAddr(a)
		t.Run(a.String(), func(t *testing.T) {
			from := func(to netip.Addr) []byte {
				return ip4{src: a, dst: to, payload: udp(a, to, data(8))}.bytes()
			}
			check(t, host, error4(3, 1, 0, from(clat4)), bad)
			check(t, router, error4(3, 1, 0, from(peer)), bad)
			to := ip4{src: peer, dst: a, payload: udp(peer, a, data(8))}.bytes()
			check(t, router, error4(3, 1, 0, to), bad)

			sent := func(from, to netip.Addr) []byte {
				return ip6{src: from, dst: to, payload: udp(from, to, data(8))}.bytes()
			}
			check(t, host, error6(remote6, 1, 3, 0, sent(clat6, embed(pref64, a))), bad)
			in := func(quote []byte) []byte {
				return ip6{dst: embed(pref64, peer), proto: protoICMPv6, payload: icmp6(remote6, embed(pref64, peer), 1, 3, 0, quote)}.bytes()
			}
			check(t, router, in(sent(embed(pref64, peer), embed(pref64, a))), bad)
			check(t, router, in(sent(embed(pref64, a), remote6)), bad)
		})
	}
	t.Run("IPv6 addresses", func(t *testing.T) {
		for _, a := range []string{"::", "::1", "ff02::1", "fe80::1"} {
			a := netip.MustParseAddr(a)
			check(t, host, error6(remote6, 1, 3, 0, ip6{src: a, dst: remote6, payload: udp(a, remote6, data(8))}.bytes()), true)
			check(t, host, error6(remote6, 1, 3, 0, ip6{src: clat6, dst: a, payload: udp(clat6, a, data(8))}.bytes()), true)
		}
	})
	t.Run("from the CLAT to itself", func(t *testing.T) {
		check(t, host, error4(3, 1, 0, ip4{src: clat4, dst: clat4, payload: udp(clat4, clat4, data(8))}.bytes()), true)
		check(t, host, error6(remote6, 1, 3, 0, ip6{src: clat6, dst: clat6, payload: udp(clat6, clat6, data(8))}.bytes()), true)
	})
	t.Run("from the block of the CLATs", func(t *testing.T) {
		a := netip.MustParseAddr("192.0.0.5")
		check(t, host, error4(3, 1, 0, ip4{src: a, dst: clat4, payload: udp(a, clat4, data(8))}.bytes()), true)
	})
	t.Run("private behind the well-known prefix", func(t *testing.T) {
		cfg := hostConfig()
		cfg.Mapping.PREF64, cfg.DropWKPPrivate = wellKnown, true
		r := newRig(t, cfg)
		a := netip.MustParseAddr("10.1.2.3")
		check(t, r, error4(3, 1, 0, ip4{src: a, dst: clat4, payload: udp(a, clat4, data(8))}.bytes()), true)
	})
	t.Run("IPv4 header only", func(t *testing.T) {
		in, err := hex.DecodeString("450000301234000040017e5bc0000001c63364090301fcfe000000004500001412340000401029a47f000001c0000001")
		if err != nil {
			t.Fatal(err)
		}
		check(t, host, in, true)
	})
}

// Bytes behind the quoted packet that no length attribute announces are not
// ours to interpret: they stay (RFC 7915 sections 4.2 and 5.2).
func TestICMPErrorBytesBehindQuote(t *testing.T) {
	r := newRig(t, hostConfig())
	withID := hostConfig()
	withID.NodeID = true
	for _, payload := range []int{0, 8, 100, 500} {
		for _, tail := range [][]byte{{1}, data(7), data(64), extensionStructure(mpls)} {
			for _, kind := range []struct {
				kind, code uint8
				word       uint32
			}{{3, 3, 0}, {3, 4, 1400}, {3, 2, 0}, {11, 0, 0}, {12, 0, 8 << 24}} {
				in := error4(kind.kind, kind.code, kind.word, append(received4(payload), tail...))
				out := r.run(t, in, siit.Offload{}).one(t)
				if n := 40 + 8 + 48 + payload; len(out) != n+len(tail) || !bytes.Equal(out[n:], tail) {
					t.Errorf("ICMPv4 %d/%d, payload %d: behind the quote is %x, want %x", kind.kind, kind.code, payload, out[min(n, len(out)):], tail)
				}
			}
			for _, kind := range []struct {
				kind, code uint8
				word       uint32
			}{{1, 4, 0}, {2, 0, 1400}, {3, 0, 0}, {4, 0, 7}, {4, 1, 6}} {
				in := error6(remote6, kind.kind, kind.code, kind.word, append(sent6(payload), tail...))
				out := r.run(t, in, siit.Offload{}).one(t)
				if n := 20 + 8 + 28 + payload; len(out) != n+len(tail) || !bytes.Equal(out[n:], tail) {
					t.Errorf("ICMPv6 %d/%d, payload %d: behind the quote is %x, want %x", kind.kind, kind.code, payload, out[min(n, len(out)):], tail)
				}
			}
			// With a Node Identification Object they are part of the padded
			// original datagram.
			in := error6(native6, 3, 0, 0, append(sent6(payload), tail...))
			out := newRig(t, withID).run(t, in, siit.Offload{}).one(t)
			quote, _, err := splitExtension(out[20:], 4)
			if err != nil {
				t.Fatal(err)
			}
			if n := 28 + payload; len(quote) < n+len(tail) && len(out) < 576-4 || !bytes.HasPrefix(tail, quote[min(n, len(quote)):min(n+len(tail), len(quote))]) {
				t.Errorf("Node-ID, payload %d: behind the quote is %x, want %x", payload, quote[min(n, len(quote)):], tail)
			}
		}
	}
	t.Run("cut to 1280 bytes", func(t *testing.T) {
		out := r.run(t, error4(3, 3, 0, append(received4(1170), data(200)...)), siit.Offload{}).one(t)
		if len(out) != 1280 || !bytes.Equal(out[40+8+48+1170:], data(200)[:14]) {
			t.Errorf("%d bytes, the last %x", len(out), out[40+8+48+1170:])
		}
	})
}

// Routers send a length attribute below 128 bytes without padding. An extension
// structure at that place is kept, and the padding is made up for (RFC 4884
// sections 4 and 5).
func TestExtensionBehindShortDatagram(t *testing.T) {
	r := newRig(t, hostConfig())
	structure := extensionStructure(mpls, mpls)
	without := bytes.Clone(structure)
	without[2], without[3] = 0, 0 // no checksum
	for _, s := range [][]byte{structure, without} {
		for _, typ := range []uint8{3, 11, 12} {
			for payload := 8; 28+payload < 128; payload += 4 {
				quote := received4(payload)
				out := r.run(t, error4(typ, 0, uint32(len(quote)/4)<<16, append(quote, s...)), siit.Offload{}).one(t)
				if typ == 12 { // ICMPv6 Parameter Problem has no extensions
					if want := 40 + 8 + 48 + payload; len(out) != want {
						t.Errorf("type %d, payload %d: %d bytes, want %d", typ, payload, len(out), want)
					}
					continue
				}
				got, ext, err := splitExtension(out[40:], 6)
				if err != nil || !bytes.Equal(ext, s) {
					t.Errorf("type %d, payload %d: extension %x, %v, want %x", typ, payload, ext, err, s)
				}
				if n := 48 + payload; len(got) != max(128, (n+7)/8*8) || len(bytes.Trim(got[n:], "\x00")) > 0 {
					t.Errorf("type %d, payload %d: original datagram %x", typ, payload, got)
				}
			}
		}
		for _, typ := range []uint8{1, 3} {
			for payload := 8; 48+payload < 128; payload += 8 {
				quote := sent6(payload)
				out := r.run(t, error6(remote6, typ, 0, uint32(len(quote)/8)<<24, append(quote, s...)), siit.Offload{}).one(t)
				got, ext, err := splitExtension(out[20:], 4)
				if err != nil || !bytes.Equal(ext, s) {
					t.Errorf("ICMPv6 type %d, payload %d: extension %x, %v, want %x", typ, payload, ext, err, s)
				}
				if n := 28 + payload; len(got) != 128 || len(bytes.Trim(got[n:], "\x00")) > 0 {
					t.Errorf("ICMPv6 type %d, payload %d: original datagram %x", typ, payload, got)
				}
			}
		}
	}
	t.Run("what is no extension structure is not believed", func(t *testing.T) {
		quote := received4(20)
		object := func(n uint16) []byte { b := make([]byte, 8); binary.BigEndian.PutUint16(b, n); return b }
		for name, tail := range map[string][]byte{
			"version 1":         {0x10, 0, 0, 0},
			"checksum":          append([]byte{0x20, 0, 1, 2}, mpls...),
			"object too long":   extensionStructure(object(9)),
			"object too short":  extensionStructure(object(3)),
			"half an object":    append([]byte{0x20, 0, 0, 0}, 0, 8, 1),
			"shorter than this": {0x20, 0},
		} {
			out := r.run(t, error4(11, 0, uint32(len(quote)/4)<<16, append(bytes.Clone(quote), tail...)), siit.Offload{}).one(t)
			if out[44] != 0 || !bytes.HasSuffix(out, tail) || len(out) != 40+8+68+len(tail) {
				t.Errorf("%s: %x", name, out)
			}
		}
		// A length that ends within the quoted ports.
		in := error4(11, 0, 6<<16, append(received4(8)[:24], structure...))
		if out := r.run(t, in, siit.Offload{}).one(t); out[44] != 0 {
			t.Errorf("a length of 24 bytes was believed: %x", out)
		}
	})
}

// An atomic fragment is a whole packet, also where it is quoted (RFC 6946).
func TestICMPErrorQuotesAtomicFragment(t *testing.T) {
	r := newRig(t, hostConfig())
	echo := icmp6(clat6, remote6, 128, 0, 7, data(40))
	for _, n := range []int{8, 40, 48} { // bytes of the echo that are quoted
		whole := ip6{src: clat6, dst: remote6, proto: protoICMPv6, hop: 5, ext: []extension{fragment(0x10077, 0, false)}, payload: echo}.bytes()
		out := r.run(t, error6(remote6, 3, 0, 0, whole[:48+n]), siit.Offload{}).one(t)
		want := ip4{ttl: 5, proto: protoICMP, id: 0x77, payload: icmp4(8, 0, 7, data(40))}.bytes()[:20+n]
		if !bytes.Equal(out[28:], want) {
			t.Errorf("quote of %d bytes:\n got %x\nwant %x", n, out[28:], want)
		}
	}
	for _, f := range []extension{fragment(7, 0, true), fragment(7, 8, false)} {
		part := ip6{src: clat6, dst: remote6, proto: protoICMPv6, ext: []extension{f}, payload: echo}.bytes()
		r.run(t, error6(remote6, 3, 0, 0, part), siit.Offload{}).dropped(t, siit.FragmentedICMP)
	}
}

// An ICMPv6 error that comes as an atomic fragment, as one that was put together
// does, has its identification from there and DF=0 whatever its size (RFC 7915
// section 5.1.1).
func TestICMPErrorInAtomicFragment(t *testing.T) {
	for _, nodeID := range []bool{false, true} {
		cfg := hostConfig()
		cfg.NodeID = nodeID
		r := newRig(t, cfg)
		for _, src := range []netip.Addr{remote6, native6} {
			for _, quoted := range []int{48, 160, 1184, 1232, 1240, 1500, 4000, 60000} { // bytes, the outer packet has 56 more
				for _, kind := range []uint8{1, 2, 3, 4} {
					word := map[uint8]uint32{2: 1400, 4: 6}[kind]
					body := sent6(65515 - 8)[:quoted]
					whole := ip6{src: src, proto: protoICMPv6, payload: icmp6(src, clat6, kind, 0, word, body)}
					plain := mustParse(t, r.run(t, whole.bytes(), siit.Offload{}).one(t))
					whole.ext = []extension{fragment(0x1234abcd, 0, false)}
					p := mustParse(t, r.run(t, whole.bytes(), siit.Offload{}).one(t))
					if p.id != 0xabcd || p.df || p.isFragment() {
						t.Errorf("type %d from %v, %d bytes quoted: ID %#x, DF %v", kind, src, quoted, p.id, p.df)
					}
					if !bytes.Equal(p.transport, plain.transport) {
						t.Errorf("type %d from %v, %d bytes quoted: another message than without Fragment Header", kind, src, quoted)
					}
				}
			}
		}
	}
}
