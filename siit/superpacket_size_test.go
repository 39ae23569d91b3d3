package siit_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"tnat64d/siit"
)

// The rules that depend on size hold for the segments of a super-packet.

// equivalence checks that translating a super-packet and cutting it up gives
// the packets that cutting it up and translating the pieces gives.
func equivalence(t *testing.T, r *rig, in []byte, off siit.Offload) {
	t.Helper()
	o := r.run(t, in, off)
	segments, err := segment(siit.Packet{Buf: in, Offload: off})
	if err != nil {
		t.Fatal(err)
	}
	var want [][]byte
	refused := outcome{}
	for _, b := range segments {
		each := r.run(t, b, siit.Offload{})
		if each.verdict != siit.Translated {
			refused = each
			continue
		}
		for _, p := range each.packets {
			want = append(want, p.Bytes())
		}
	}
	if refused.verdict != siit.Translated && refused.reason != siit.None {
		if o.verdict != refused.verdict || o.reason != refused.reason {
			t.Errorf("super-packet: %v %v, a segment of it: %v %v", o.verdict, o.reason, refused.verdict, refused.reason)
		}
		return
	}
	if o.verdict != siit.Translated {
		t.Fatalf("super-packet: %v, its segments are translated", o)
	}
	var got [][]byte
	for _, p := range o.packets {
		cut, err := segment(p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, cut...)
	}
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := comparable(t, got[i]), comparable(t, want[i])
		if !bytes.Equal(g, w) {
			t.Fatalf("packet %d of %d\n got %x\nwant %x", i, len(want), g[:min(len(g), 120)], w[:min(len(w), 120)])
		}
	}
}

// comparable blanks what may differ: in IPv4 the identification, and the DF
// bit of the last segment if only that is small.
func comparable(t *testing.T, b []byte) []byte {
	t.Helper()
	p := mustParse(t, b)
	if p.version == 6 {
		return b
	}
	b = bytes.Clone(b)
	b[4], b[5] = 0, 0
	if len(b) <= 1260 && !p.isFragment() {
		b[6] &^= 0x40
	}
	fixIPv4Checksum(b)
	return b
}

func TestSegmentsFirstOrLast(t *testing.T) {
	for name, change := range map[string]func(c *siit.Config){
		"":                func(c *siit.Config) {},
		"lowest 1400":     func(c *siit.Config) { c.LowestIPv6MTU = 1400 },
		"lowest 1500":     func(c *siit.Config) { c.LowestIPv6MTU = 1500 },
		"small links":     func(c *siit.Config) { c.MTU6, c.MTU4 = 1280, 1000 },
		"large links":     func(c *siit.Config) { c.MTU6, c.MTU4 = 9000, 8980 },
		"neutral mapping": func(c *siit.Config) { c.Mapping = neutralConfig().Mapping },
	} {
		cfg := hostConfig()
		change(&cfg)
		r := newRig(t, cfg)
		for _, to6 := range []bool{true, false} {
			for _, proto := range []uint8{protoTCP, protoUDP} {
				for _, df := range []bool{true, false} {
					for _, c := range []struct{ size, payload int }{
						{1220, 12345}, {1221, 3000}, {1232, 12345}, {1233, 5000}, {1240, 5000}, {1252, 5000}, {1300, 5000}, {1440, 14400}, {1448, 8000}, {1452, 5000}, {1460, 4000}, {500, 2001}, {8000, 20000}, {1400, 900},
					} {
						for _, partial := range []bool{true, false} {
							s := super{to6: to6, proto: proto, size: c.size, payload: c.payload, df: df, partial: partial, mapping: cfg.Mapping, tcpFlags: 0x99}
							t.Run(name+" "+s.String(), func(t *testing.T) {
								in, off := s.packet()
								equivalence(t, r, in, off)
							})
						}
					}
				}
			}
		}
	}
}

// TestSegmentsWithoutChecksum holds for a super-packet: each segment gets a
// checksum of its own.
func TestSegmentsWithoutChecksum(t *testing.T) {
	cfg := hostConfig()
	refuse := cfg
	refuse.DropUDPZeroChecksum = true
	for _, size := range []int{1000, 1440} {
		for _, df := range []bool{true, false} {
			s := super{to6: true, proto: protoUDP, size: size, payload: 9000, df: df, mapping: cfg.Mapping}
			in, off := s.packet()
			in[26], in[27] = 0, 0
			equivalence(t, newRig(t, cfg), in, off)
			newRig(t, refuse).run(t, in, off).dropped(t, siit.UDPZeroChecksum)
		}
	}
}

func TestSuperPacketTooBig(t *testing.T) {
	cfg := hostConfig()
	r := newRig(t, cfg)
	t.Run("too big for IPv6", func(t *testing.T) {
		for _, c := range []struct {
			size int
			fits bool
		}{{1440, true}, {1441, false}, {1460, false}, {9000, false}} {
			s := super{to6: true, proto: protoTCP, size: c.size, payload: 20000, df: true, partial: true, mapping: cfg.Mapping}
			in, off := s.packet()
			o := r.run(t, in, off)
			if c.fits {
				o.one(t)
				continue
			}
			e := o.reply(t, siit.TooBig)
			if e[20] != 3 || e[21] != 4 || binary.BigEndian.Uint16(e[26:]) != 1480 {
				t.Errorf("gso_size %d: %x", c.size, e[:28])
			}
		}
	})
	t.Run("DF by the size of a segment", func(t *testing.T) {
		for _, c := range []struct {
			size int
			df   bool
		}{{1220, false}, {1221, true}, {1440, true}, {536, false}} {
			s := super{proto: protoTCP, size: c.size, payload: 20000, partial: true, mapping: cfg.Mapping}
			in, off := s.packet()
			if p := mustParse(t, r.run(t, in, off).one(t)); p.df != c.df {
				t.Errorf("gso_size %d: DF=%v", c.size, p.df)
			}
		}
	})
	t.Run("too big for IPv4", func(t *testing.T) {
		small := hostConfig()
		small.MTU4 = 1400
		s := super{proto: protoTCP, size: 1440, payload: 20000, partial: true, mapping: cfg.Mapping}
		in, off := s.packet()
		e := newRig(t, small).run(t, in, off).reply(t, siit.TooBig)
		if e[40] != 2 || binary.BigEndian.Uint32(e[44:]) != 1420 {
			t.Errorf("%x", e[:48])
		}
	})
	t.Run("each segment in fragments", func(t *testing.T) {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			for _, partial := range []bool{true, false} {
				s := super{to6: true, proto: proto, size: 1440, payload: 62000, partial: partial, mapping: cfg.Mapping}
				in, off := s.packet()
				o := r.run(t, in, off)
				if o.verdict != siit.Translated {
					t.Fatalf("%v", o)
				}
				var wire [][]byte
				for _, p := range o.packets {
					if len(p.Bytes()) > 1280 {
						t.Fatalf("%d bytes", len(p.Bytes()))
					}
					wire = append(wire, p.Bytes())
				}
				whole, err := reassemble(wire)
				if err != nil {
					t.Fatal(err)
				}
				if want := (62000 + 1439) / 1440; len(whole) != want {
					t.Errorf("%d datagrams, want %d", len(whole), want)
				}
				for i, b := range whole {
					if transportState(mustParse(t, b), siit.Offload{}) != sumRight {
						t.Errorf("datagram %d has a wrong checksum", i)
					}
				}
			}
		}
	})
	t.Run("TTL", func(t *testing.T) {
		s := super{to6: true, proto: protoTCP, size: 1400, payload: 20000, df: true, partial: true, mapping: cfg.Mapping}
		in, off := s.packet()
		r.run(t, withTTL(in, 1), off).reply(t, siit.TTLExceeded)
		s.to6 = false
		in, off = s.packet()
		r.run(t, withTTL(in, 1), off).reply(t, siit.TTLExceeded)
	})
}
