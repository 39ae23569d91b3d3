package siit_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// IPv4 to IPv6: RFC 7915 sections 4 and 4.1, beyond what the vectors pin.

func TestHeader4to6(t *testing.T) {
	t.Run("every protocol number", func(t *testing.T) {
		r := newRig(t, hostConfig())
		for proto := range 256 {
			in := ip4{df: true, payload: data(64)}
			in.proto = uint8(proto)
			b := in.bytes()
			b[9] = uint8(proto) // also 0
			fixIPv4Checksum(b)
			o := r.run(t, b, siit.Offload{})
			switch proto {
			case protoICMP, protoTCP, protoUDP: // have their own tests
			case protoIGMP:
				o.dropped(t, siit.IGMP)
			case protoHopByHop, protoRouting, protoFragment, protoDestOpts, protoICMPv6:
				// Written as an IPv6 next header these would be something else.
				o.dropped(t, siit.ProtocolOfOtherFamily)
			default:
				p := o.one(t)
				want := parsed{proto: uint8(proto), transport: data(64)}
				if p[6] != uint8(proto) || !bytes.Equal(withoutChecksum(mustParse(t, p)), withoutChecksum(want)) {
					t.Errorf("protocol %d became %d, or its payload was changed", proto, p[6])
				}
			}
		}
	})

	t.Run("every TOS", func(t *testing.T) {
		r := newRig(t, hostConfig())
		for tos := range 256 {
			in := ip4{tos: uint8(tos), payload: udp(clat4, remote4, data(8))}.bytes()
			if got := mustParse(t, r.run(t, in, siit.Offload{}).one(t)); int(got.tos) != tos {
				t.Errorf("TOS %#x became %#x", tos, got.tos)
			}
		}
	})

	t.Run("every TTL", func(t *testing.T) {
		r := newRig(t, hostConfig())
		for ttl := range 256 {
			in := udp4(100, true)
			in[8] = uint8(ttl)
			fixIPv4Checksum(in)
			o := r.run(t, in, siit.Offload{})
			if ttl <= 1 {
				e := o.reply(t, siit.TTLExceeded)
				if e[20] != 11 || e[21] != 0 {
					t.Errorf("TTL %d: ICMPv4 %d/%d", ttl, e[20], e[21])
				}
				continue
			}
			if got := o.one(t)[7]; int(got) != ttl-1 {
				t.Errorf("TTL %d became hop limit %d", ttl, got)
			}
		}
	})

	t.Run("header sanity", func(t *testing.T) {
		r := newRig(t, hostConfig())
		for _, c := range []struct {
			name    string
			change  func(b []byte) []byte
			reasons []siit.Reason
		}{
			{"empty", func(b []byte) []byte { return nil }, []siit.Reason{siit.NotIP}},
			{"version 0", func(b []byte) []byte { b[0] = 0x05; return b }, []siit.Reason{siit.NotIP}},
			{"version 5", func(b []byte) []byte { b[0] = 0x55; return b }, []siit.Reason{siit.NotIP}},
			{"version 15", func(b []byte) []byte { b[0] = 0xf5; return b }, []siit.Reason{siit.NotIP}},
			{"one byte", func(b []byte) []byte { return b[:1] }, []siit.Reason{siit.Truncated}},
			{"19 bytes", func(b []byte) []byte { return b[:19] }, []siit.Reason{siit.Truncated}},
			{"IHL 4", func(b []byte) []byte { b[0] = 0x44; fixIPv4Checksum(b); return b }, []siit.Reason{siit.BadIPv4Header}},
			{"IHL 0", func(b []byte) []byte { b[0] = 0x40; return b }, []siit.Reason{siit.BadIPv4Header}},
			{"IHL beyond total length", func(b []byte) []byte { b[0] = 0x4f; b[3] = 40; fixIPv4Checksum(b); return b }, []siit.Reason{siit.BadIPv4Header}},
			{"IHL beyond the bytes", func(b []byte) []byte { b[0] = 0x4f; return b[:40] }, []siit.Reason{siit.Truncated, siit.BadIPv4Header}},
			{"total length 19", func(b []byte) []byte { b[2], b[3] = 0, 19; fixIPv4Checksum(b); return b }, []siit.Reason{siit.BadIPv4Header}},
			{"total length 0", func(b []byte) []byte { b[2], b[3] = 0, 0; fixIPv4Checksum(b); return b }, []siit.Reason{siit.BadIPv4Header}},
			{"total length one too many", func(b []byte) []byte { b[3]++; fixIPv4Checksum(b); return b }, []siit.Reason{siit.Truncated}},
			{"checksum one too many", func(b []byte) []byte { b[11]++; return b }, []siit.Reason{siit.BadIPv4Checksum}},
			{"checksum 0", func(b []byte) []byte { b[10], b[11] = 0, 0; return b }, []siit.Reason{siit.BadIPv4Checksum}},
		} {
			t.Run(c.name, func(t *testing.T) {
				r.run(t, c.change(udp4(100, true)), siit.Offload{}).dropped(t, c.reasons...)
			})
		}
	})
}

func TestIPv4Options(t *testing.T) {
	r := newRig(t, hostConfig())
	plain := newRig(t, hostConfig()).run(t, udp4(100, true), siit.Offload{}).one(t)
	with := func(opts ...byte) []byte {
		return ip4{df: true, id: 0x4242, options: opts, payload: udp(clat4, remote4, data(72))}.bytes()
	}
	address := []byte{192, 0, 2, 9}
	for _, c := range []struct {
		name string
		in   []byte
	}{
		{"no-operations", with(1, 1, 1, 1)},
		{"end of list", with(0, 131, 255, 4)},
		{"forty bytes", with(append([]byte{7, 39, 40}, make([]byte, 37)...)...)},
		{"timestamp", with(68, 8, 9, 0, 0, 0, 0, 0)},
		{"SSRR expired", with(append([]byte{1, 137, 7, 8}, address...)...)},
		{"LSRR expired after others", with(append([]byte{148, 4, 0, 0, 1, 131, 7, 8}, address...)...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := r.run(t, c.in, siit.Offload{}).one(t); !bytes.Equal(got, plain) {
				t.Errorf("not the same as without options:\n got %x\nwant %x", got, plain)
			}
		})
	}
	for _, c := range []struct {
		name string
		in   []byte
	}{
		{"LSRR", with(append([]byte{1, 131, 7, 4}, address...)...)},
		{"SSRR", with(append([]byte{1, 137, 7, 4}, address...)...)},
		{"after another option", with(append([]byte{148, 4, 0, 0, 1, 131, 7, 4}, address...)...)},
		{"pointer equals length", with(append([]byte{1, 131, 7, 7}, address...)...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := r.run(t, c.in, siit.Offload{}).reply(t, siit.SourceRoute)
			if e[20] != 3 || e[21] != 5 {
				t.Errorf("ICMPv4 %d/%d", e[20], e[21])
			}
		})
	}
	// Options that cannot be read must not make the walk run away, nor hide a
	// source route that can.
	for _, opts := range [][]byte{
		{7, 0, 0, 0}, {7, 1, 0, 0}, {7, 200, 4, 0}, {1, 1, 1, 7}, {1, 1, 1, 131}, {131, 3, 0, 0}, {131, 2, 0, 0}, {1, 1, 131, 3},
	} {
		t.Run(fmt.Sprintf("malformed %v", opts), func(t *testing.T) {
			r.run(t, with(opts...), siit.Offload{})
		})
	}
}

func TestAddressesRefused4to6(t *testing.T) {
	t.Run("illegal sources", func(t *testing.T) {
		// In a host's CLAT these are simply not ours; a router must know.
		host, router := newRig(t, hostConfig()), newRig(t, routerConfig())
		for _, src := range []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"} {
			a := netip.MustParseAddr(src)
			in := ip4{src: a, payload: udp(a, remote4, data(8))}.bytes()
			router.run(t, in, siit.Offload{}).dropped(t, siit.SourceIllegal)
			host.run(t, in, siit.Offload{}).dropped(t, siit.SourceIllegal, siit.SourceNotOurs)
			// Also with a TTL that has run out: no error goes to such a source.
			in[8] = 1
			fixIPv4Checksum(in)
			router.run(t, in, siit.Offload{}).dropped(t, siit.SourceIllegal, siit.TTLExceeded)
		}
	})

	t.Run("source of an ICMPv4 error", func(t *testing.T) {
		router := newRig(t, routerConfig())
		for _, src := range []string{"0.0.0.0", "127.0.0.1", "240.0.0.1"} {
			a := netip.MustParseAddr(src)
			in := ip4{src: a, dst: remote4, proto: protoICMP, payload: icmp4(11, 0, 0, ip4{src: remote4, dst: clat4, payload: udp(remote4, clat4, data(8))}.bytes())}.bytes()
			if p := mustParse(t, router.run(t, in, siit.Offload{}).one(t)); p.src != embed(pref64, a) {
				t.Errorf("%v became %v", a, p.src)
			}
		}
	})

	t.Run("destinations that stay", func(t *testing.T) {
		for name, r := range map[string]*rig{"host": newRig(t, hostConfig()), "router": newRig(t, routerConfig())} {
			for _, dst := range []string{
				"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "169.254.0.1", "169.254.255.255", "192.0.0.0", "192.0.0.2", "192.0.0.7",
				"224.0.0.1", "224.0.0.251", "239.1.2.3", "240.0.0.1", "255.255.255.254", "255.255.255.255",
			} {
				a := netip.MustParseAddr(dst)
				src := clat4
				if name == "router" {
					src = netip.MustParseAddr("203.0.113.5")
				}
				in := ip4{src: src, dst: a, payload: udp(src, a, data(8))}.bytes()
				r.run(t, in, siit.Offload{}).dropped(t, siit.DestinationIllegal)
			}
			// Their neighbours leave.
			for _, dst := range []string{"1.0.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "192.0.0.8", "192.0.0.170", "191.255.255.255", "223.255.255.255"} {
				a := netip.MustParseAddr(dst)
				p := mustParse(t, r.run(t, ip4{dst: a, payload: udp(clat4, a, data(8))}.bytes(), siit.Offload{}).one(t))
				if p.dst != embed(pref64, a) {
					t.Errorf("%s: %v became %v", name, a, p.dst)
				}
			}
		}
	})

	t.Run("the CLAT itself", func(t *testing.T) {
		in := ip4{dst: clat4, payload: udp(clat4, clat4, data(8))}.bytes()
		if o := newRig(t, hostConfig()).run(t, in, siit.Offload{}); o.verdict != siit.Drop {
			t.Errorf("a packet from the CLAT to itself: %v", o)
		}
	})

	t.Run("sources that are not ours", func(t *testing.T) {
		r := newRig(t, hostConfig())
		for _, src := range []string{"192.0.0.0", "192.0.0.2", "192.168.1.2", "198.51.100.7", "8.8.8.8"} {
			a := netip.MustParseAddr(src)
			r.run(t, ip4{src: a, dst: remote4, payload: udp(a, remote4, data(8))}.bytes(), siit.Offload{}).dropped(t, siit.SourceNotOurs)
		}
	})
}

// TestIdentification4to6 holds for every identification.
func TestIdentification4to6(t *testing.T) {
	r := newRig(t, hostConfig())
	for id := 0; id < 0x10000; id += 251 {
		in := ip4{id: uint16(id), mf: true, payload: udp(clat4, remote4, data(64))}.bytes()
		out := r.run(t, in, siit.Offload{}).one(t)
		if got := binary.BigEndian.Uint32(out[44:]); got != uint32(id) {
			t.Errorf("identification %#x became %#x", id, got)
		}
		if out[41] != 0 || out[43]&6 != 0 {
			t.Errorf("reserved bits of the Fragment Header are set: %x", out[40:48])
		}
	}
}
