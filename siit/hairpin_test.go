package siit_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// Hairpinning, RFC 7757 section 4: two hosts, A and B, of one table reach each
// other by their IPv4 addresses. E-6 and E-7.

var (
	hostA4, hostA6 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:aaaa::a")
	hostB4, hostB6 = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8:bbbb::b")
	// In the IPv6 network a host appears to the other one by RFC 6052.
	hostA64, hostB64 = embed(pref64, hostA4), embed(pref64, hostB4)
)

func hairpinRig(t *testing.T, mode siit.Hairpin) *rig {
	t.Helper()
	cfg := routerConfig(eam("192.0.2.1/32", "2001:db8:aaaa::a/128"), eam("192.0.2.2/32", "2001:db8:bbbb::b/128"))
	cfg.Mapping.Hairpin = mode
	return newRig(t, cfg)
}

// wantAddresses compares the addresses of out, and those of the packet that it
// quotes if there are four.
func wantAddresses(t *testing.T, out []byte, want ...netip.Addr) {
	t.Helper()
	p := mustParse(t, out)
	got := []netip.Addr{p.src, p.dst}
	if len(want) == 4 {
		q := mustParseQuote(t, out)
		got = append(got, q.src, q.dst)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("addresses %v, want %v", got, want)
			return
		}
	}
}

// The packets: A sends to B, and what the IPv4 network returns.
func fromA6() []byte {
	return ip6{src: hostA6, dst: hostB64, payload: udp(hostA6, hostB64, data(40))}.bytes()
}

func fromA4() []byte {
	return ip4{src: hostA4, dst: hostB4, payload: udp(hostA4, hostB4, data(40))}.bytes()
}

func TestHairpinSimple(t *testing.T) {
	r := hairpinRig(t, siit.HairpinSimple)
	t.Run("6to4", func(t *testing.T) {
		wantAddresses(t, r.run(t, fromA6(), siit.Offload{}).one(t), hostA4, hostB4)
	})
	t.Run("E-6 (1) back again", func(t *testing.T) {
		wantAddresses(t, r.run(t, fromA4(), siit.Offload{}).one(t), hostA64, hostB6)
	})
	t.Run("E-6 (1) from the internet", func(t *testing.T) {
		wantAddresses(t, r.run(t, ip4{src: remote4, dst: hostB4, payload: udp(remote4, hostB4, data(40))}.bytes(), siit.Offload{}).one(t), remote6, hostB6)
	})
	// B finds the port closed. Its error reaches the translator as IPv6, goes
	// out as IPv4, and comes back.
	t.Run("E-6 (2) (3) ICMP error of the other host", func(t *testing.T) {
		quote := ip4{src: hostA4, dst: hostB4, payload: udp(hostA4, hostB4, data(40))}.bytes()
		in := ip4{src: hostB4, dst: hostA4, proto: protoICMP, payload: icmp4(3, 3, 0, quote)}.bytes()
		wantAddresses(t, r.run(t, in, siit.Offload{}).one(t), hostB64, hostA6, hostA6, hostB64)
	})
	t.Run("E-6 (2) ICMP error of a router on the way", func(t *testing.T) {
		quote := ip4{src: hostA4, dst: hostB4, payload: udp(hostA4, hostB4, data(40))}.bytes()
		in := ip4{src: remote4, dst: hostA4, proto: protoICMP, payload: icmp4(11, 0, 0, quote)}.bytes()
		wantAddresses(t, r.run(t, in, siit.Offload{}).one(t), remote6, hostA6, hostA6, hostB64)
	})
	t.Run("E-6 (3) only if it is the same node", func(t *testing.T) {
		// A error whose source is in the table but is not the quoted
		// destination: rule 3 does not apply, its source has an entry.
		quote := ip4{src: hostA4, dst: remote4, payload: udp(hostA4, remote4, data(40))}.bytes()
		in := ip4{src: hostB4, dst: hostA4, proto: protoICMP, payload: icmp4(11, 0, 0, quote)}.bytes()
		wantAddresses(t, r.run(t, in, siit.Offload{}).one(t), hostB6, hostA6, hostA6, remote6)
	})
}

func TestHairpinIntrinsic(t *testing.T) {
	r := hairpinRig(t, siit.HairpinIntrinsic)
	t.Run("E-7 packet", func(t *testing.T) {
		in := fromA6()
		out := r.run(t, in, siit.Offload{}).one(t)
		wantAddresses(t, out, hostA64, hostB6)
		if out[7] != in[7]-1 {
			t.Errorf("hop limit %d became %d: decremented once", in[7], out[7])
		}
		p := mustParse(t, out)
		if transportState(p, siit.Offload{}) != sumRight || !bytes.Equal(p.transport[8:], data(40)) || p.hasFH {
			t.Errorf("%x", out)
		}
	})
	t.Run("E-7 ICMP error", func(t *testing.T) {
		quote := ip6{src: hostA64, dst: hostB6, hop: 9, payload: udp(hostA64, hostB6, data(40))}.bytes()
		in := ip6{src: hostB6, dst: hostA64, proto: protoICMPv6, payload: icmp6(hostB6, hostA64, 1, 4, 0, quote)}.bytes()
		out := r.run(t, in, siit.Offload{}).one(t)
		wantAddresses(t, out, hostB64, hostA6, hostA6, hostB64)
		p := mustParse(t, out)
		if p.transport[0] != 1 || p.transport[1] != 4 || transportState(p, siit.Offload{}) != sumRight {
			t.Errorf("%x", out)
		}
		// A has to recognise its packet: the checksum, too.
		q := mustParseQuote(t, out)
		if transportState(q, siit.Offload{}) != sumRight || q.ttl != 9 {
			t.Errorf("quoted packet %x", out[48:])
		}
	})
	t.Run("E-7 Packet Too Big", func(t *testing.T) {
		quote := ip6{src: hostA64, dst: hostB6, hop: 9, payload: udp(hostA64, hostB6, data(1100))}.bytes()
		in := ip6{src: native6, dst: hostA64, proto: protoICMPv6, payload: icmp6(native6, hostA64, 2, 0, 1400, quote)}.bytes()
		out := r.run(t, in, siit.Offload{}).one(t)
		p := mustParse(t, out)
		if mtu := binary.BigEndian.Uint32(p.transport[4:]); p.dst != hostA6 || p.transport[0] != 2 || mtu != 1400 {
			t.Errorf("to %v, type %d, MTU %d", p.dst, p.transport[0], mtu)
		}
	})
	t.Run("E-7 echo", func(t *testing.T) {
		in := ip6{src: hostA6, dst: hostB64, proto: protoICMPv6, payload: icmp6(hostA6, hostB64, 128, 0, 0x00070001, data(40))}.bytes()
		out := r.run(t, in, siit.Offload{}).one(t)
		wantAddresses(t, out, hostA64, hostB6)
		if p := mustParse(t, out); p.transport[0] != 128 || !bytes.Equal(p.transport[8:], data(40)) {
			t.Errorf("%x", out)
		}
	})
	t.Run("E-7 fragments", func(t *testing.T) {
		in := ip6{src: hostA6, dst: hostB64, ext: []extension{fragment(0x4321, 1232, false)}, payload: data(100)}.bytes()
		out := r.run(t, in, siit.Offload{}).one(t)
		wantAddresses(t, out, hostA64, hostB6)
		if p := mustParse(t, out); p.id != 0x4321 || p.offset != 1232 || p.more || !bytes.Equal(p.transport, data(100)) {
			t.Errorf("%+v", p)
		}
	})
	t.Run("E-7 large packets", func(t *testing.T) {
		// What fits the IPv6 link must not be split by the way through IPv4.
		for _, n := range []int{1200, 1240, 1300, 1452} {
			in := ip6{src: hostA6, dst: hostB64, payload: udp(hostA6, hostB64, data(n-48))}.bytes()
			if out := r.run(t, in, siit.Offload{}).one(t); len(out) != len(in) {
				t.Errorf("%d bytes became %d", len(in), len(out))
			}
		}
	})
	t.Run("E-7 too big on the way back", func(t *testing.T) {
		// The IPv4 form fits, but what is turned round does not: the sender
		// has to hear of it, or its path MTU discovery ends here.
		cfg := r.cfg
		cfg.MTU6, cfg.MTU4 = 1400, 1480
		in := ip6{src: hostA6, dst: hostB64, payload: udp(hostA6, hostB64, data(1402))}.bytes()
		e := translate(t, cfg, in).reply(t, siit.TooBig)
		if mtu := binary.BigEndian.Uint32(e[44:]); e[40] != 2 || mtu != 1400 {
			t.Errorf("ICMPv6 type %d, MTU %d", e[40], mtu)
		}
		cfg.NoErrors = true
		translate(t, cfg, in).dropped(t, siit.TooBig)
	})
	t.Run("E-7 super-packet", func(t *testing.T) {
		in := ip6{src: hostA6, dst: hostB64, proto: protoTCP, payload: tcp(hostA6, hostB64, 0x10, nil, data(5000))}.bytes()
		off := siit.Offload{GSOType: siit.GSOTCPv6, GSOSize: 1400, HdrLen: 60}
		o := r.run(t, in, off)
		wantAddresses(t, o.one(t), hostA64, hostB6)
		if got := o.packets[0]; got.GSOType != siit.GSOTCPv6 || got.GSOSize != 1400 {
			t.Errorf("%+v", got.Offload)
		}
	})
	t.Run("destination with an entry in the IPv6 column", func(t *testing.T) {
		// Not made by RFC 6052, so it is not turned round.
		in := ip6{src: hostA6, dst: hostB6, payload: udp(hostA6, hostB6, data(40))}.bytes()
		out := r.run(t, in, siit.Offload{}).one(t)
		if out[0]>>4 != 4 {
			t.Errorf("turned round: %x", out)
		}
	})
	t.Run("to the internet", func(t *testing.T) {
		in := ip6{src: hostA6, dst: remote6, payload: udp(hostA6, remote6, data(40))}.bytes()
		wantAddresses(t, r.run(t, in, siit.Offload{}).one(t), hostA4, remote4)
	})
	t.Run("hop limit 1", func(t *testing.T) {
		r.run(t, withTTL(fromA6(), 1), siit.Offload{}).reply(t, siit.TTLExceeded)
		r.run(t, withTTL(fromA6(), 2), siit.Offload{}).one(t)
	})
}

func TestHairpinOff(t *testing.T) {
	r := hairpinRig(t, siit.HairpinOff)
	wantAddresses(t, r.run(t, fromA6(), siit.Offload{}).one(t), hostA4, hostB4)
	wantAddresses(t, r.run(t, fromA4(), siit.Offload{}).one(t), hostA6, hostB6)
}
