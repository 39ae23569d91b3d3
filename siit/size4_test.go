package siit_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"tnat64d/siit"
)

// Size limits and fragments, IPv4 to IPv6.

// want6 says what an unfragmented DF=0 packet has to become: whole, or the
// pieces of its fragmentation.
func want6(t *testing.T, lowest int, in []byte, o outcome) {
	t.Helper()
	if o.verdict != siit.Translated {
		t.Fatalf("%d bytes: %v", len(in), o)
	}
	payload := len(in) - 20
	if 40+payload <= lowest {
		if len(o.packets) != 1 || len(o.packets[0].Bytes()) != 40+payload {
			t.Errorf("%d bytes became %d packets, the first of %d", len(in), len(o.packets), len(o.packets[0].Bytes()))
		}
		return
	}
	each := (lowest - 48) &^ 7
	if n := (payload + each - 1) / each; len(o.packets) != n {
		t.Errorf("%d bytes became %d packets, want %d", len(in), len(o.packets), n)
	}
	for i, pkt := range o.packets {
		p := mustParse(t, pkt.Bytes())
		if want := min(each, payload-i*each); len(p.transport) != want || p.offset != i*each || p.more != (i < len(o.packets)-1) {
			t.Errorf("piece %d has %d bytes at %d, more %v; want %d", i, len(p.transport), p.offset, p.more, want)
		}
		if p.id != 0x4242 {
			t.Errorf("piece %d has identification %#x", i, p.id)
		}
	}
}

func TestLowestIPv6MTU(t *testing.T) {
	for _, lowest := range []int{1280, 1281, 1287, 1288, 1400, 1500} {
		cfg := hostConfig()
		cfg.LowestIPv6MTU = lowest
		r := newRig(t, cfg)
		for _, total := range []int{28, 29, 576, 1260, 1261, 1262, 1379, 1380, 1381, lowest - 20, lowest - 19, 1472, 1480, 1481, 1500, 2520, 4000, 8220} {
			in := udp4(total, false)
			want6(t, lowest, in, r.run(t, in, siit.Offload{}))
		}
	}
	// The biggest datagram there is either comes out right, which the harness
	// has checked, or is refused for that reason.
	o := newRig(t, hostConfig()).run(t, udp4(65535, false), siit.Offload{})
	if o.verdict != siit.Translated {
		o.dropped(t, siit.TooManyFragments)
	}
}

func TestLowestIPv6MTUAboveMTU6(t *testing.T) {
	cfg := hostConfig()
	cfg.MTU6, cfg.MTU4, cfg.LowestIPv6MTU = 1300, 1280, 1500
	if _, err := siit.New(cfg); err != nil {
		return // refusing the configuration is as good
	}
	// what the next hop takes comes first; the harness checks sizes.
	for _, total := range []int{1280, 1281, 1480, 3000} {
		if o := translate(t, cfg, udp4(total, false)); o.verdict != siit.Translated {
			t.Errorf("%d bytes: %v", total, o)
		}
	}
}

func TestDontFragment4to6(t *testing.T) {
	for _, mtu6 := range []int{1280, 1400, 1500, 9000} {
		cfg := hostConfig()
		cfg.MTU6, cfg.MTU4 = mtu6, mtu6-20
		r := newRig(t, cfg)
		for _, total := range []int{28, 1260, 1261, mtu6 - 21, mtu6 - 20, mtu6 - 19, mtu6, mtu6 + 500} {
			in := udp4(total, true)
			o := r.run(t, in, siit.Offload{})
			if total+20 <= mtu6 {
				if got := len(o.one(t)); got != total+20 {
					t.Errorf("%d bytes became %d", total, got)
				}
				continue
			}
			e := o.reply(t, siit.TooBig)
			if e[20] != 3 || e[21] != 4 || int(binary.BigEndian.Uint16(e[26:])) != mtu6-20 || e[24] != 0 || e[25] != 0 {
				t.Errorf("MTU %d, %d bytes: ICMPv4 %d/%d, second word %x", mtu6, total, e[20], e[21], e[24:28])
			}
		}
	}
}

func TestFragments4to6(t *testing.T) {
	r := newRig(t, hostConfig())
	frag := func(payload int, df, mf bool, offset int) []byte {
		return ip4{id: 0x4242, df: df, mf: mf, offset: offset, payload: data(payload), proto: protoESP}.bytes()
	}
	t.Run("DF=1 fragment", func(t *testing.T) {
		if got := len(r.run(t, frag(1448, true, true, 0), siit.Offload{}).one(t)); got != 1496 {
			t.Errorf("%d bytes", got)
		}
		e := r.run(t, frag(1456, true, true, 0), siit.Offload{}).reply(t, siit.TooBig)
		// 1480 is what RFC 7915 section 4 says, 1472 what helps.
		if mtu := binary.BigEndian.Uint16(e[26:]); e[20] != 3 || e[21] != 4 || mtu != 1480 && mtu != 1472 {
			t.Errorf("ICMPv4 %d/%d, MTU %d", e[20], e[21], mtu)
		}
		if got := len(r.run(t, frag(1452, true, false, 1448), siit.Offload{}).one(t)); got != 1500 {
			t.Errorf("%d bytes", got)
		}
		r.run(t, frag(1453, true, false, 1448), siit.Offload{}).dropped(t, siit.TooBig)
	})
	t.Run("split again", func(t *testing.T) {
		for _, c := range []struct {
			payload, offset int
			more            bool
			pieces          int
		}{
			{1232, 0, true, 1}, {1240, 0, true, 2}, {1232, 8, false, 1}, {1233, 8, false, 2}, {1456, 1480, true, 2}, {1460, 2960, false, 2},
			{2464, 0, true, 2}, {2472, 65000 - 2472, true, 3}, {800, 64704, false, 1}, {1232, 64280, false, 1}, {1400, 64112, false, 2},
		} {
			o := r.run(t, frag(c.payload, false, c.more, c.offset), siit.Offload{})
			if o.verdict != siit.Translated || len(o.packets) != c.pieces {
				t.Errorf("%+v: %v", c, o)
				continue
			}
			last := mustParse(t, o.packets[len(o.packets)-1].Bytes())
			if last.more != c.more || last.offset+len(last.transport) != c.offset+c.payload {
				t.Errorf("%+v: ends at %d, more %v", c, last.offset+len(last.transport), last.more)
			}
		}
	})
	t.Run("bad fragments", func(t *testing.T) {
		// A fragment that is not the last has to be a multiple of 8 bytes in
		// IPv6; none may reach beyond 65535 bytes.
		r.run(t, frag(65, false, true, 0), siit.Offload{}).dropped(t, siit.BadFragment)
		r.run(t, frag(64, false, true, 65528), siit.Offload{}).dropped(t, siit.BadFragment)
		r.run(t, frag(64, false, false, 65528), siit.Offload{}).dropped(t, siit.BadFragment)
	})
	t.Run("only the first fragment has a checksum", func(t *testing.T) {
		whole := udp(clat4, remote4, data(3000))
		var out [][]byte
		for at := 0; at < len(whole); at += 1200 {
			end := min(at+1200, len(whole))
			in := ip4{id: 7, mf: end < len(whole), offset: at, payload: whole[at:end]}.bytes()
			for _, p := range r.run(t, in, siit.Offload{}).packets {
				out = append(out, p.Bytes())
			}
		}
		got, err := reassemble(out)
		if err != nil || len(got) != 1 {
			t.Fatalf("%d datagrams, %v", len(got), err)
		}
		p := mustParse(t, got[0])
		if transportState(p, siit.Offload{}) != sumRight || !bytes.Equal(p.transport[8:], data(3000)) {
			t.Error("reassembled datagram has a wrong checksum or payload")
		}
	})
	t.Run("short first fragments", func(t *testing.T) {
		// The checksum lies beyond the first fragment: nothing can be done
		// right, so the packet is dropped or left alone, but not mangled.
		for _, proto := range []uint8{protoTCP, protoUDP} {
			for _, n := range []int{0, 8, 16} {
				r.run(t, ip4{proto: proto, mf: true, payload: data(n)}.bytes(), siit.Offload{})
			}
		}
	})
}

func TestICMPOversize4to6(t *testing.T) {
	// an echo is whole, so it can be translated and then fragmented.
	r := newRig(t, hostConfig())
	for _, size := range []int{1400, 4000} {
		in := ip4{id: 0x4242, proto: protoICMP, payload: icmp4(8, 0, 0x12340001, data(size))}.bytes()
		if o := r.run(t, in, siit.Offload{}); o.verdict != siit.Translated || len(o.packets) < 2 {
			t.Errorf("ping -s %d: %v", size, o)
		}
	}
	in := ip4{proto: protoICMP, df: true, payload: icmp4(8, 0, 0x12340001, data(1500))}.bytes()
	r.run(t, in, siit.Offload{}).reply(t, siit.TooBig)
}
