package siit_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"tnat64d/siit"
)

// GSO/GRO super-packets and partial checksums. The
// harness checks each result's virtio-net header and, after software
// segmentation and reassembly, its payload and checksums.

// super is a super-packet in one direction.
type super struct {
	to6      bool
	proto    uint8
	size     int  // payload of a segment
	payload  int  // of all
	partial  bool // NEEDS_CSUM
	df       bool
	ecn      bool
	options  []byte // of IPv4
	ext      []extension
	tcpFlags uint8
	tcpOpts  []byte
	mapping  siit.Mapping
}

func (s super) String() string {
	name := map[uint8]string{protoTCP: "TCP", protoUDP: "UDP"}[s.proto]
	if s.to6 {
		name += fmt.Sprintf(" 4to6 df=%v", s.df)
	} else {
		name += " 6to4"
	}
	name += fmt.Sprintf(" %dx%d", s.payload, s.size)
	if s.partial {
		name += " partial"
	}
	return name
}

func (s super) packet() ([]byte, siit.Offload) {
	m := s.mapping
	src, dst := embed(m.PREF64, remote4), m.CLAT.IPv6
	if s.to6 {
		src, dst = clat4, remote4
	}
	if s.tcpFlags == 0 {
		s.tcpFlags = 0x18
	}
	var segment []byte
	off := siit.Offload{GSOSize: uint16(s.size), GSOType: siit.GSOUDPL4, CsumOffset: 6}
	hdr := 8
	if s.proto == protoTCP {
		segment = tcp(src, dst, s.tcpFlags, s.tcpOpts, data(s.payload))
		hdr = 20 + len(s.tcpOpts)
		off.CsumOffset = 16
		off.GSOType = siit.GSOTCPv6
		if s.to6 {
			off.GSOType = siit.GSOTCPv4
		}
		if s.ecn {
			off.GSOType |= siit.GSOECN
		}
	} else {
		segment = udp(src, dst, data(s.payload))
	}
	var in []byte
	l4 := 0
	if s.to6 {
		in = ip4{id: 0xfff0, tos: 2, df: s.df, proto: s.proto, options: s.options, payload: segment}.bytes()
		l4 = 20 + len(s.options)
	} else {
		in = ip6{src: src, dst: dst, tc: 2, proto: s.proto, ext: s.ext, payload: segment}.bytes()
		l4 = len(in) - len(segment)
	}
	off.HdrLen = uint16(l4 + hdr)
	if s.partial {
		off.Flags, off.CsumStart = siit.NeedsCsum, uint16(l4)
		binary.BigEndian.PutUint16(in[l4+int(off.CsumOffset):], pseudoSum(s.proto, src, dst, len(segment)))
	} else {
		off.CsumOffset = 0
	}
	return in, off
}

// supers are super-packets that cross a 1500-byte link whole.
func supers(m siit.Mapping) []super {
	var all []super
	for _, to6 := range []bool{true, false} {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			for _, partial := range []bool{true, false} {
				for _, c := range []struct{ payload, size int }{{62000, 1400}, {2800, 1400}, {1401, 1400}, {3001, 1000}, {5000, 536}, {64, 1}, {1000, 1400}} {
					all = append(all, super{to6: to6, proto: proto, size: c.size, payload: c.payload, partial: partial, df: true, mapping: m})
				}
			}
		}
	}
	return all
}

func TestSuperPackets(t *testing.T) {
	for _, cfg := range []siit.Config{hostConfig(), neutralConfig()} {
		r := newRig(t, cfg)
		for _, s := range supers(cfg.Mapping) {
			t.Run(s.String(), func(t *testing.T) {
				in, off := s.packet()
				o := r.run(t, in, off)
				out := o.one(t)
				got := o.packets[0].Offload
				want := off
				shift := 20
				if !s.to6 {
					shift = -20
				}
				want.HdrLen = uint16(int(off.HdrLen) + shift)
				if s.partial {
					want.CsumStart = uint16(int(off.CsumStart) + shift)
				}
				if s.proto == protoTCP {
					want.GSOType = off.GSOType ^ siit.GSOTCPv4 ^ siit.GSOTCPv6
				}
				if got != want {
					t.Errorf("offload %+v, want %+v", got, want)
				}
				if len(out) != len(in)+shift {
					t.Errorf("%d bytes became %d", len(in), len(out))
				}
			})
		}
	}
}

func TestSuperPacketHeaders(t *testing.T) {
	cfg := hostConfig()
	r := newRig(t, cfg)
	base := func(to6 bool) super {
		return super{to6: to6, proto: protoTCP, size: 1300, payload: 9000, partial: true, df: true, mapping: cfg.Mapping}
	}
	t.Run("ECN bit is kept", func(t *testing.T) {
		for _, to6 := range []bool{true, false} {
			s := base(to6)
			s.ecn, s.tcpFlags = true, 0x98 // CWR
			in, off := s.packet()
			o := r.run(t, in, off)
			o.one(t)
			if got := o.packets[0].GSOType; got != off.GSOType^siit.GSOTCPv4^siit.GSOTCPv6 || got&siit.GSOECN == 0 {
				t.Errorf("GSO type %#x became %#x", off.GSOType, got)
			}
		}
	})
	t.Run("hdr_len is computed", func(t *testing.T) {
		// Linux says how much of a forwarded packet is linear, not how long
		// its headers are.
		for _, to6 := range []bool{true, false} {
			for _, opts := range [][]byte{nil, {1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, bytes.Repeat([]byte{1}, 40)} {
				s := base(to6)
				s.tcpOpts = opts
				in, off := s.packet()
				for _, lie := range []uint16{0, 1, 20, 54, 66, 200, 4096, 0xffff} {
					off.HdrLen = lie
					o := r.run(t, in, off)
					o.one(t)
					want := 60 + len(opts)
					if !to6 {
						want -= 20
					}
					if got := int(o.packets[0].HdrLen); got != want {
						t.Errorf("hdr_len %d became %d, want %d", lie, got, want)
					}
				}
			}
		}
	})
	t.Run("IPv4 options", func(t *testing.T) {
		s := base(true)
		s.options = []byte{1, 1, 1, 1, 148, 4, 0, 0}
		in, off := s.packet()
		o := r.run(t, in, off)
		o.one(t)
		if got := o.packets[0].Offload; got.HdrLen != 60 || got.CsumStart != 40 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("IPv6 extension headers", func(t *testing.T) {
		s := base(false)
		s.ext = []extension{options(protoHopByHop, 1), options(protoDestOpts, 3)}
		in, off := s.packet()
		o := r.run(t, in, off)
		o.one(t)
		if got := o.packets[0].Offload; got.HdrLen != 40 || got.CsumStart != 20 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("identification of each segment", func(t *testing.T) {
		// The kernel counts up from the super-packet's: the next packet must
		// not get one of those when DF=0.
		s := base(false)
		s.size = 1000
		in, off := s.packet()
		seen := map[uint32]bool{}
		for range 5 {
			o := r.run(t, in, off)
			segments, err := segment(o.packets[0])
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range segments {
				p := mustParse(t, b)
				if seen[p.id] {
					t.Fatalf("identification %#x twice, DF=%v", p.id, p.df)
				}
				seen[p.id] = true
			}
		}
	})
	t.Run("longest", func(t *testing.T) {
		// An IPv6 packet can be longer than IPv4 can say.
		s := base(false)
		for _, payload := range []int{65495, 65496, 65515} {
			s.payload = payload
			in, off := s.packet()
			o := r.run(t, in, off)
			if payload == 65495 {
				o.one(t)
			}
			if o.verdict != siit.Translated {
				t.Logf("payload %d: %v", payload, o)
			}
		}
		s = base(true)
		s.payload = 65495
		in, off := s.packet()
		r.run(t, in, off).one(t)
	})
}

// TestPartialChecksums are packets that are no super-packets, but have their
// checksum completed by the device.
func TestPartialChecksums(t *testing.T) {
	cfg := hostConfig()
	r := newRig(t, cfg)
	for _, to6 := range []bool{true, false} {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			for _, payload := range []int{0, 1, 100, 1201, 1400} {
				s := super{to6: to6, proto: proto, payload: payload, partial: true, df: true, mapping: cfg.Mapping}
				in, off := s.packet()
				off.GSOType, off.GSOSize = siit.GSONone, 0
				o := r.run(t, in, off)
				o.one(t)
				got, err := segment(o.packets[0])
				if err != nil {
					t.Fatal(err)
				}
				if transportState(mustParse(t, got[0]), siit.Offload{}) != sumRight {
					t.Errorf("%v: checksum is wrong once completed", s)
				}
			}
		}
	}
	t.Run("completed before it is fragmented", func(t *testing.T) {
		for _, payload := range []int{1300, 1400, 4000} {
			s := super{to6: true, proto: protoUDP, payload: payload, partial: true, mapping: cfg.Mapping}
			in, off := s.packet()
			off.GSOType, off.GSOSize = siit.GSONone, 0
			o := r.run(t, in, off)
			if o.verdict != siit.Translated || len(o.packets) < 2 {
				t.Fatalf("%v", o)
			}
			whole, err := reassembleOne(o.packets)
			if err != nil {
				t.Fatal(err)
			}
			if transportState(mustParse(t, whole), siit.Offload{}) != sumRight {
				t.Errorf("payload %d: checksum of the reassembled datagram is wrong", payload)
			}
		}
	})
	t.Run("completed before it is fragmented, 6to4", func(t *testing.T) {
		small := hostConfig()
		small.MTU4 = 600
		s := super{proto: protoUDP, payload: 1200, partial: true, mapping: cfg.Mapping}
		in, off := s.packet()
		off.GSOType, off.GSOSize = siit.GSONone, 0
		o := newRig(t, small).run(t, in, off)
		whole, err := reassembleOne(o.packets)
		if err != nil {
			t.Fatal(err)
		}
		if transportState(mustParse(t, whole), siit.Offload{}) != sumRight {
			t.Error("checksum of the reassembled datagram is wrong")
		}
	})
	t.Run("ICMP", func(t *testing.T) {
		// Not something Linux does, but virtio does not forbid it.
		in := ip6{proto: protoICMPv6, payload: icmp6(remote6, clat6, 129, 0, 0x00010002, data(40))}.bytes()
		binary.BigEndian.PutUint16(in[42:], pseudoSum(protoICMPv6, remote6, clat6, 48))
		o := r.run(t, in, siit.Offload{Flags: siit.NeedsCsum, CsumStart: 40, CsumOffset: 2})
		if o.verdict == siit.Translated {
			if transportState(mustParse(t, o.one(t)), siit.Offload{}) != sumRight {
				t.Errorf("%v", o)
			}
		}
	})
	t.Run("DataValid may stay", func(t *testing.T) {
		o := r.run(t, udp6(100), siit.Offload{Flags: siit.DataValid})
		o.one(t)
		if got := o.packets[0].Offload; got.Flags&^siit.DataValid != 0 {
			t.Errorf("%+v", got)
		}
	})
}
