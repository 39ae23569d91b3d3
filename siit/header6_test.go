package siit_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"tnat64d/siit"
)

// IPv6 to IPv4: RFC 7915 sections 5 and 5.1, beyond what the vectors pin.

func TestHeader6to4(t *testing.T) {
	t.Run("every next header", func(t *testing.T) {
		r := newRig(t, hostConfig())
		for proto := range 256 {
			in := ip6{payload: data(64)}.bytes()
			in[6] = uint8(proto)
			o := r.run(t, in, siit.Offload{})
			switch proto {
			case protoTCP, protoUDP, protoICMPv6: // have their own tests
			case protoHopByHop, protoRouting, protoDestOpts, protoFragment: // and these
			case protoICMP:
				o.dropped(t, siit.ProtocolOfOtherFamily)
			case protoIGMP: // IGMP over IPv6: nobody knows what that is
				if o.verdict == siit.Drop {
					o.dropped(t, siit.IGMP, siit.ProtocolOfOtherFamily)
				}
			default:
				p := o.one(t)
				want := parsed{proto: uint8(proto), transport: data(64)}
				if p[9] != uint8(proto) || !bytes.Equal(withoutChecksum(mustParse(t, p)), withoutChecksum(want)) {
					t.Errorf("next header %d became %d, or its payload was changed", proto, p[9])
				}
			}
		}
	})

	t.Run("every traffic class", func(t *testing.T) {
		r := newRig(t, hostConfig())
		for tc := range 256 {
			in := ip6{tc: uint8(tc), flow: 0xfffff, payload: udp(remote6, clat6, data(8))}.bytes()
			if got := mustParse(t, r.run(t, in, siit.Offload{}).one(t)); int(got.tos) != tc {
				t.Errorf("traffic class %#x became %#x", tc, got.tos)
			}
		}
	})

	t.Run("every hop limit", func(t *testing.T) {
		r := newRig(t, hostConfig())
		for hop := range 256 {
			in := udp6(100)
			in[7] = uint8(hop)
			o := r.run(t, in, siit.Offload{})
			if hop <= 1 {
				e := o.reply(t, siit.TTLExceeded)
				if e[40] != 3 || e[41] != 0 {
					t.Errorf("hop limit %d: ICMPv6 %d/%d", hop, e[40], e[41])
				}
				continue
			}
			if got := o.one(t)[8]; int(got) != hop-1 {
				t.Errorf("hop limit %d became TTL %d", hop, got)
			}
		}
	})

	t.Run("identification", func(t *testing.T) {
		r := newRig(t, hostConfig())
		seen := map[uint16]bool{}
		for range 1000 {
			p := mustParse(t, r.run(t, udp6(100), siit.Offload{}).one(t))
			if p.df {
				t.Fatal("DF=1")
			}
			seen[uint16(p.id)] = true
		}
		if len(seen) != 1000 {
			t.Errorf("%d identifications for 1000 packets with DF=0", len(seen))
		}
	})

	t.Run("every size around 1260", func(t *testing.T) {
		r := newRig(t, hostConfig())
		for total := 1270; total < 1300; total++ {
			p := mustParse(t, r.run(t, udp6(total), siit.Offload{}).one(t))
			if want := total-20 > 1260; p.df != want {
				t.Errorf("IPv4 packet of %d bytes: DF=%v", total-20, p.df)
			}
		}
		// Extension headers do not count: the size is that of the IPv4 packet.
		in := ip6{ext: []extension{options(protoDestOpts, 3)}, payload: udp(remote6, clat6, data(1232))}.bytes()
		if p := mustParse(t, r.run(t, in, siit.Offload{}).one(t)); p.df {
			t.Error("an IPv4 packet of 1260 bytes from an IPv6 packet of 1304 has DF=1")
		}
	})

	t.Run("header sanity", func(t *testing.T) {
		r := newRig(t, hostConfig())
		for n := range 40 {
			r.run(t, udp6(100)[:n], siit.Offload{}).dropped(t, siit.Truncated, siit.NotIP, siit.BadIPv6Header)
		}
		in := udp6(100)
		in[5]++
		r.run(t, in, siit.Offload{}).dropped(t, siit.Truncated)
		// A jumbogram has payload length 0.
		jumbo := ip6{ext: []extension{{protoHopByHop, []byte{0, 0, 0xc2, 4, 0, 1, 0, 0}}}, payload: data(100)}.bytes()
		jumbo[4], jumbo[5] = 0, 0
		r.run(t, jumbo, siit.Offload{}).dropped(t, siit.BadIPv6Header, siit.Truncated)
	})

	t.Run("longest payload", func(t *testing.T) {
		// An IPv4 packet holds 20 bytes less than an IPv6 packet.
		cfg := hostConfig()
		cfg.MTU6, cfg.MTU4 = 65535, 65535
		r := newRig(t, cfg)
		for _, n := range []int{65515, 65516, 65535} {
			in := ip6{proto: protoESP, payload: data(n)}.bytes()
			if o := r.run(t, in, siit.Offload{}); (o.verdict == siit.Translated) != (n == 65515) {
				t.Errorf("payload of %d bytes: %v %v", n, o.verdict, o.reason)
			}
		}
	})
}

func TestExtensionHeaders(t *testing.T) {
	r := newRig(t, hostConfig())
	plain := mustParse(t, r.run(t, udp6(100), siit.Offload{}).one(t))
	payload := udp(remote6, clat6, data(52))
	same := func(t *testing.T, o outcome) {
		t.Helper()
		p := mustParse(t, o.one(t))
		if !bytes.Equal(p.transport, plain.transport) || p.headerLen != 20 {
			t.Errorf("not the same as without extension headers: %x", o.one(t))
		}
	}
	hbh, dst, rt := options(protoHopByHop, 1), options(protoDestOpts, 2), routing(0)
	t.Run("any order", func(t *testing.T) {
		for _, chain := range [][]extension{
			{hbh}, {dst}, {rt}, {hbh, dst}, {dst, hbh}, {hbh, rt, dst}, {dst, rt, dst}, {rt, hbh}, {dst, dst, dst}, {rt, rt},
			{options(protoHopByHop, 20)}, {options(protoDestOpts, 100)},
		} {
			same(t, r.run(t, ip6{ext: chain, payload: payload}.bytes(), siit.Offload{}))
		}
	})
	t.Run("bounded chain", func(t *testing.T) {
		for n := range 40 {
			o := r.run(t, ip6{ext: slices.Repeat([]extension{dst}, n), payload: payload}.bytes(), siit.Offload{})
			if n <= 8 {
				same(t, o)
			} else {
				o.dropped(t, siit.ExtensionChainTooLong)
			}
		}
	})
	t.Run("truncated chain", func(t *testing.T) {
		in := ip6{ext: []extension{hbh, rt, dst, fragment(5, 0, true)}, payload: data(64)}.bytes()
		for n := 40; n < 40+8+24+16+8; n++ {
			cut := bytes.Clone(in[:n])
			binary.BigEndian.PutUint16(cut[4:], uint16(n-40))
			if o := r.run(t, cut, siit.Offload{}); o.verdict != siit.Drop {
				t.Errorf("%d bytes of the chain: %v", n-40, o)
			}
		}
		for _, kind := range []uint8{protoHopByHop, protoRouting, protoDestOpts} {
			in := ip6{ext: []extension{{kind, []byte{0, 255, 0, 0, 0, 0, 0, 0}}}, payload: payload}.bytes()
			r.run(t, in, siit.Offload{}).dropped(t, siit.BadIPv6Header, siit.Truncated)
		}
	})
	t.Run("segments left", func(t *testing.T) {
		for _, c := range []struct {
			before  []extension
			pointer uint32
		}{{nil, 43}, {[]extension{hbh}, 51}, {[]extension{dst}, 59}, {[]extension{hbh, dst, rt}, 91}} {
			for _, left := range []uint8{1, 255} {
				in := ip6{ext: append(slices.Clone(c.before), routing(left)), payload: payload}.bytes()
				e := r.run(t, in, siit.Offload{}).reply(t, siit.RoutingHeader)
				if got := binary.BigEndian.Uint32(e[44:]); e[40] != 4 || e[41] != 0 || got != c.pointer {
					t.Errorf("ICMPv6 %d/%d pointer %d, want 4/0 pointer %d", e[40], e[41], got, c.pointer)
				}
			}
		}
		// not if the packet is an ICMPv6 error.
		in := ip6{ext: []extension{routing(1)}, proto: protoICMPv6, payload: icmp6(remote6, clat6, 1, 0, 0, sent6(20))}.bytes()
		r.run(t, in, siit.Offload{}).dropped(t, siit.RoutingHeader)
	})
	t.Run("extension header after the Fragment Header", func(t *testing.T) {
		for _, after := range []uint8{protoHopByHop, protoRouting, protoFragment, protoDestOpts, protoAH, 135, 139, 140} {
			for _, f := range []extension{fragment(7, 0, false), fragment(7, 0, true), fragment(7, 64, true), fragment(7, 64, false)} {
				in := ip6{ext: []extension{f}, proto: protoESP, payload: make([]byte, 64)}.bytes()
				in[40] = after // also 0
				r.run(t, in, siit.Offload{}).dropped(t, siit.FragmentThenExtension)
			}
		}
		in := ip6{ext: []extension{fragment(7, 0, true)}, proto: protoESP, payload: data(64)}.bytes()
		r.run(t, in, siit.Offload{}).one(t)
	})
}

func TestFragments6to4(t *testing.T) {
	r := newRig(t, hostConfig())
	frag := func(n, offset int, more bool) []byte {
		return ip6{ext: []extension{fragment(0x98765432, offset, more)}, proto: protoESP, payload: data(n)}.bytes()
	}
	t.Run("fields", func(t *testing.T) {
		for _, c := range []struct {
			n, offset int
			more      bool
		}{{1448, 0, true}, {8, 8, true}, {1448, 1448, true}, {7, 2896, false}, {0, 2896, false}, {1448, 64064, false}} {
			p := mustParse(t, r.run(t, frag(c.n, c.offset, c.more), siit.Offload{}).one(t))
			if p.id != 0x5432 || p.df || p.more != c.more || p.offset != c.offset || !bytes.Equal(p.transport, data(c.n)) {
				t.Errorf("%+v became %+v", c, p)
			}
		}
	})
	t.Run("atomic", func(t *testing.T) {
		for _, n := range []int{8, 9, 1232, 1300, 1440} {
			p := mustParse(t, r.run(t, frag(n, 0, false), siit.Offload{}).one(t))
			if p.id != 0x5432 || p.df || p.isFragment() {
				t.Errorf("%d bytes became %+v", n, p)
			}
		}
		// An atomic fragment of ICMPv6 may be dropped, but not come out wrong.
		in := ip6{ext: []extension{fragment(9, 0, false)}, proto: protoICMPv6, payload: icmp6(remote6, clat6, 129, 0, 0x12340001, data(56))}.bytes()
		if o := r.run(t, in, siit.Offload{}); o.verdict != siit.Translated {
			o.dropped(t, siit.FragmentedICMP)
		}
	})
	t.Run("checksums", func(t *testing.T) {
		whole := udp(remote6, clat6, data(4000))
		var out [][]byte
		for at := 0; at < len(whole); at += 1200 {
			end := min(at+1200, len(whole))
			in := ip6{ext: []extension{hopByHopOnce, fragment(77, at, end < len(whole))}, payload: whole[at:end]}.bytes()
			out = append(out, r.run(t, in, siit.Offload{}).one(t))
		}
		got, err := reassemble(out)
		if err != nil || len(got) != 1 {
			t.Fatalf("%d datagrams, %v", len(got), err)
		}
		if p := mustParse(t, got[0]); transportState(p, siit.Offload{}) != sumRight || !bytes.Equal(p.transport[8:], data(4000)) {
			t.Error("reassembled datagram has a wrong checksum or payload")
		}
	})
	t.Run("bad fragments", func(t *testing.T) {
		r.run(t, frag(65, 0, true), siit.Offload{}).dropped(t, siit.BadFragment)
		r.run(t, frag(64, 65528, false), siit.Offload{}).dropped(t, siit.BadFragment)
		r.run(t, frag(64, 65528, true), siit.Offload{}).dropped(t, siit.BadFragment)
		// UDP without a checksum does not exist, nor in a fragment.
		b := udp(remote6, clat6, data(64))
		b[6], b[7] = 0, 0
		in := ip6{ext: []extension{fragment(9, 0, true)}, payload: b}.bytes()
		r.run(t, in, siit.Offload{}).dropped(t, siit.UDPZeroChecksumIPv6)
	})
}

var hopByHopOnce = options(protoHopByHop, 1)

func TestSmallMTU4(t *testing.T) {
	for _, mtu4 := range []int{68, 576, 1000, 1001, 1259, 1260} {
		t.Run(fmt.Sprintf("mtu4=%d", mtu4), func(t *testing.T) {
			cfg := hostConfig()
			cfg.MTU4 = mtu4
			r := newRig(t, cfg)
			for _, total := range []int{68, 100, 576, 595, 596, 597, 1020, 1021, 1200, 1279, 1280} {
				o := r.run(t, udp6(total), siit.Offload{})
				if o.verdict != siit.Translated || (total-20 > mtu4) != (len(o.packets) > 1) {
					t.Errorf("%d bytes: %v %v, %d packets", total, o.verdict, o.reason, len(o.packets))
				}
			}
			// Fragments have DF=0 whatever their size.
			for _, more := range []bool{true, false} {
				in := ip6{ext: []extension{fragment(77, 2400, more)}, proto: protoESP, payload: data(1448)}.bytes()
				if o := r.run(t, in, siit.Offload{}); o.verdict != siit.Translated {
					t.Errorf("fragment: %v", o)
				}
			}
			// ICMP: an echo may be fragmented, an error too (it has DF=0).
			echo := ip6{proto: protoICMPv6, payload: icmp6(remote6, clat6, 129, 0, 0x12340001, data(1200))}.bytes()
			if o := r.run(t, echo, siit.Offload{}); o.verdict != siit.Translated {
				t.Errorf("echo reply: %v", o)
			}
			if o := r.run(t, error6(remote6, 1, 4, 0, sent6(1180)), siit.Offload{}); o.verdict != siit.Translated {
				t.Errorf("ICMPv6 error: %v", o)
			}
		})
	}
	t.Run("too big", func(t *testing.T) {
		for _, c := range []struct{ mtu6, mtu4, total, mtu int }{
			{1500, 1400, 1421, 1420}, {1500, 1400, 1500, 1420}, {1500, 1279, 1500, 1299}, {1500, 1200, 1281, 1280}, {1500, 576, 1400, 1280},
			{1400, 1480, 1501, 1400}, {9000, 8980, 9001, 9000},
		} {
			cfg := hostConfig()
			cfg.MTU6, cfg.MTU4 = c.mtu6, c.mtu4
			e := translate(t, cfg, udp6(c.total)).reply(t, siit.TooBig)
			if got := binary.BigEndian.Uint32(e[44:]); e[40] != 2 || e[41] != 0 || int(got) != c.mtu {
				t.Errorf("%+v: ICMPv6 %d/%d, MTU %d", c, e[40], e[41], got)
			}
			cfg.MTU4 = c.total - 20
			translate(t, cfg, udp6(c.total)).one(t)
		}
	})
}

func TestAddressesRefused6to4(t *testing.T) {
	host, router := newRig(t, hostConfig()), newRig(t, routerConfig())
	from := func(src netip.Addr) []byte {
		return ip6{src: src, payload: udp(src, clat6, data(8))}.bytes()
	}
	t.Run("the CLAT's own address is no source of what comes in", func(t *testing.T) {
		r := newRig(t, hostConfig())
		r.run(t, ip6{src: clat6, payload: udp(clat6, clat6, data(8))}.bytes(), siit.Offload{}).dropped(t, siit.SourceIllegal)
		r.run(t, error6(clat6, 3, 0, 0, sent6(8)), siit.Offload{}).dropped(t, siit.SourceIllegal)
		r.run(t, ip6{src: clat6, hop: 1, payload: udp(clat6, clat6, data(8))}.bytes(), siit.Offload{}).dropped(t, siit.SourceIllegal)
	})
	t.Run("illegal sources", func(t *testing.T) {
		for _, src := range []string{"::", "::1", "ff02::1", "ff0e::1234"} {
			host.run(t, from(netip.MustParseAddr(src)), siit.Offload{}).dropped(t, siit.SourceIllegal)
		}
	})
	t.Run("illegal sources inside PREF64", func(t *testing.T) {
		// No IPv4 packet may come from there (RFC 1812 5.3.7), translated or not.
		for _, src := range []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.1"} {
			in := from(embed(pref64, netip.MustParseAddr(src)))
			host.run(t, in, siit.Offload{}).dropped(t, siit.SourceIllegal)
		}
	})
	t.Run("destinations that are not ours", func(t *testing.T) {
		for _, dst := range []string{"2001:db8:aaaa::465", "2001:db8:ffff::1", "fe80::1", "ff02::1", "ff02::1:ff00:464"} {
			a := netip.MustParseAddr(dst)
			in := ip6{dst: a, payload: udp(remote6, a, data(8))}.bytes()
			if o := host.run(t, in, siit.Offload{}); o.verdict != siit.Drop || o.reason != siit.DestinationNotOurs && o.reason != siit.DestinationIllegal {
				t.Errorf("%v: %v", a, o)
			}
		}
		in := ip6{dst: native6, payload: udp(remote6, native6, data(8))}.bytes()
		if o := router.run(t, in, siit.Offload{}); o.verdict == siit.Translated || o.reason != siit.DestinationUnmappable {
			t.Errorf("router: %v", o)
		}
	})
	t.Run("destinations inside PREF64", func(t *testing.T) {
		for _, dst := range []string{"0.0.0.1", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"} {
			a := embed(pref64, netip.MustParseAddr(dst))
			in := ip6{dst: a, payload: udp(remote6, a, data(8))}.bytes()
			router.run(t, in, siit.Offload{}).dropped(t, siit.DestinationIllegal)
		}
	})
	t.Run("source outside PREF64", func(t *testing.T) {
		for name, payload := range map[uint8][]byte{protoUDP: udp(native6, clat6, data(8)), protoTCP: tcp(native6, clat6, 2, nil, nil), protoESP: data(40)} {
			in := ip6{src: native6, proto: name, payload: payload}.bytes()
			e := host.run(t, in, siit.Offload{}).reply(t, siit.SourceOutsidePREF64)
			if e[40] != 1 || e[41] != 1 {
				t.Errorf("protocol %d: ICMPv6 %d/%d", name, e[40], e[41])
			}
		}
		for _, typ := range []uint8{128, 129} { // no ICMPv6 message at all
			in := ip6{src: native6, proto: protoICMPv6, payload: icmp6(native6, clat6, typ, 0, 0, data(8))}.bytes()
			host.run(t, in, siit.Offload{}).dropped(t, siit.SourceOutsidePREF64)
		}
	})
}
