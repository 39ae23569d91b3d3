package siit_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// Transport checksums: RFC 7915 sections 4.5 and 5.5.

// sumSetting is one way in which all 65,536 sums are gone through.
type sumSetting struct {
	name    string
	cfg     siit.Config
	proto   uint8
	partial bool // NEEDS_CSUM
}

func sumSettings() []sumSetting {
	var all []sumSetting
	for _, neutral := range []bool{false, true} {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			for _, partial := range []bool{false, true} {
				s := sumSetting{"TCP", hostConfig(), proto, partial}
				if proto == protoUDP {
					s.name = "UDP"
				}
				if partial {
					s.name += " partial"
				}
				if neutral {
					s.name += " neutral"
					s.cfg = neutralConfig()
				}
				all = append(all, s)
			}
		}
	}
	return all
}

// TestEveryChecksum translates a packet for each of the 65,536 values that the
// two bytes of its payload can have, so that the transport checksum takes
// every value, and compares with a full computation by gVisor. For partial
// checksums the addresses vary instead, as nothing else is in the sum.
func TestEveryChecksum(t *testing.T) {
	for _, s := range sumSettings() {
		t.Run(s.name+" 4to6", func(t *testing.T) { everyChecksum(t, s, true) })
		t.Run(s.name+" 6to4", func(t *testing.T) { everyChecksum(t, s, false) })
	}
}

// everyStep is how many sums are passed over: with -short, which the race
// detector is run with, most of them.
func everyStep() int {
	if testing.Short() {
		return 13
	}
	return 1
}

func everyChecksum(t *testing.T, s sumSetting, to6 bool) {
	tr, err := siit.New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	scratch := siit.NewScratch(1)
	m := s.cfg.Mapping
	at, hdr := 16, 20
	if s.proto == protoUDP {
		at, hdr = 6, 8
	}
	in, in4, ipLen, outLen := []byte(nil), to6, 20, 40
	src, dst := m.CLAT.IPv4, remote4
	if !in4 {
		ipLen, outLen = 40, 20
		src, dst = embed(m.PREF64, remote4), m.CLAT.IPv6
	}
	build := func() {
		segment := tcp(src, dst, 0x10, nil, []byte{0, 0, 7})
		if s.proto == protoUDP {
			segment = udp(src, dst, []byte{0, 0, 7})
		}
		if in4 {
			in = ip4{src: src, dst: dst, proto: s.proto, df: true, payload: segment}.bytes()
		} else {
			in = ip6{src: src, dst: dst, proto: s.proto, payload: segment}.bytes()
		}
	}
	build()
	var off siit.Offload
	if s.partial {
		off = siit.Offload{Flags: siit.NeedsCsum, CsumStart: uint16(ipLen), CsumOffset: uint16(at)}
	}
	mem := make([]byte, siit.Headroom+len(in))
	seen := make([]bool, 0x10000)
	step := everyStep()
	for v := 0; v < 0x10000; v += step {
		packet := mem[siit.Headroom:]
		copy(packet, in)
		transport := packet[ipLen:]
		var want uint16
		if s.partial {
			// Another remote host for each v: its low half is the variable.
			remote := netip.AddrFrom4([4]byte{198, 51, byte(v >> 8), byte(v)})
			if in4 {
				copy(packet[16:], remote.AsSlice())
				fixIPv4Checksum(packet)
				binary.BigEndian.PutUint16(transport[at:], pseudoSum(s.proto, src, remote, len(transport)))
				want = pseudoSum(s.proto, m.CLAT.IPv6, embed(m.PREF64, remote), len(transport))
			} else {
				remote6 := embed(m.PREF64, remote)
				copy(packet[8:], remote6.AsSlice())
				binary.BigEndian.PutUint16(transport[at:], pseudoSum(s.proto, remote6, dst, len(transport)))
				want = pseudoSum(s.proto, remote, m.CLAT.IPv4, len(transport))
			}
		} else {
			binary.BigEndian.PutUint16(transport[hdr:], uint16(v))
			if s.proto == protoUDP {
				fixUDPChecksum(src, dst, transport)
			} else {
				fixTCPChecksum(src, dst, transport)
			}
		}
		seen[binary.BigEndian.Uint16(transport[at:])] = true

		res := tr.Translate(scratch, siit.Packet{Buf: mem, Off: siit.Headroom, Offload: off})
		if res.Verdict != siit.Translated || len(res.Packets) != 1 {
			t.Fatalf("%#x: %v %v", v, res.Verdict, res.Reason)
		}
		out := res.Packets[0]
		transport = out.Bytes()[outLen:]
		got := binary.BigEndian.Uint16(transport[at:])
		if s.partial {
			if out.Flags&siit.NeedsCsum == 0 || int(out.CsumStart) != outLen || int(out.CsumOffset) != at {
				t.Fatalf("%#x: %+v", v, out.Offload)
			}
			if !sameSum(got, want) {
				t.Fatalf("%#x: partial sum %#x, want %#x", v, got, want)
			}
			continue
		}
		outSrc, outDst := m.CLAT.IPv6, embed(m.PREF64, remote4)
		if !in4 {
			outSrc, outDst = remote4, m.CLAT.IPv4
		}
		transport[at], transport[at+1] = 0, 0
		want = ^transportSum(s.proto, outSrc, outDst, transport)
		if s.proto == protoUDP && want == 0 {
			want = 0xffff
		}
		// In TCP 0 and 0xffff are the same number and both are right.
		if got != want && !(s.proto == protoTCP && sameSum(got, want)) {
			t.Fatalf("%#x: checksum %#x, want %#x", v, got, want)
		}
	}
	missing := 0
	for _, ok := range seen {
		if !ok {
			missing++
		}
	}
	// 0 and 0xffff stand for the same sum; a computation gives one of them.
	if missing > 2 && step == 1 {
		t.Errorf("%d checksums did not occur", missing)
	}
}

// TestWrongChecksums: a wrong checksum stays as wrong as it was.
func TestWrongChecksums(t *testing.T) {
	for _, cfg := range []siit.Config{hostConfig(), neutralConfig()} {
		r := newRig(t, cfg)
		src6, dst6 := embed(cfg.Mapping.PREF64, remote4), cfg.Mapping.CLAT.IPv6
		for by := 1; by < 0xffff; by += 257 {
			for _, in := range [][]byte{
				udp4(100, true),
				ip4{proto: protoTCP, payload: tcp(clat4, remote4, 0x10, nil, data(31))}.bytes(),
				ip6{src: src6, dst: dst6, payload: udp(src6, dst6, data(40))}.bytes(),
				ip6{src: src6, dst: dst6, proto: protoTCP, payload: tcp(src6, dst6, 0x10, nil, data(31))}.bytes(),
			} {
				p := mustParse(t, in)
				at := p.headerLen + 6
				if p.proto == protoTCP {
					at += 10
				}
				sum := binary.BigEndian.Uint16(in[at:])
				wrong := uint16((uint32(sum) + uint32(by)) % 0xffff)
				if p.proto == protoUDP && wrong == 0 {
					continue
				}
				binary.BigEndian.PutUint16(in[at:], wrong)
				r.run(t, in, siit.Offload{}) // the harness compares
			}
		}
	}
}

func TestUDPWithoutChecksum(t *testing.T) {
	none := func(p ip4, n int) []byte {
		p.payload = udp(clat4, remote4, data(n))
		p.payload[6], p.payload[7] = 0, 0
		return p.bytes()
	}
	refuse := hostConfig()
	refuse.DropUDPZeroChecksum = true
	compute, drop := newRig(t, hostConfig()), newRig(t, refuse)
	for _, n := range []int{0, 1, 2, 3, 100, 1232, 1400, 3001} {
		// the harness checks the result, also of several fragments.
		if o := compute.run(t, none(ip4{id: 5}, n), siit.Offload{}); o.verdict != siit.Translated {
			t.Errorf("%d bytes: %v", n, o)
		}
		drop.run(t, none(ip4{id: 5}, n), siit.Offload{}).dropped(t, siit.UDPZeroChecksum)
	}
	// a first fragment cannot be helped, a later one not be recognised.
	compute.run(t, none(ip4{mf: true}, 64), siit.Offload{}).dropped(t, siit.UDPZeroChecksumFragment)
	compute.run(t, none(ip4{offset: 64}, 64), siit.Offload{}).one(t)
	t.Run("every payload", func(t *testing.T) {
		// A computed checksum of 0 goes out as 0xffff.
		ffff := 0
		in := none(ip4{}, 4)
		for v := 0; v < 0x10000; v += everyStep() {
			binary.BigEndian.PutUint16(in[28:], uint16(v))
			o := compute.run(t, in, siit.Offload{})
			if sum := binary.BigEndian.Uint16(o.one(t)[46:]); sum == 0xffff {
				ffff++
			}
		}
		if ffff == 0 && everyStep() == 1 {
			t.Error("no checksum of 0xffff came out")
		}
	})
	t.Run("lengths that lie", func(t *testing.T) {
		// The checksum covers as many bytes as the UDP header says.
		for _, length := range []uint16{0, 7, 8, 20, 107, 108, 109, 65535} {
			in := none(ip4{}, 100)
			binary.BigEndian.PutUint16(in[24:], length)
			compute.run(t, in, siit.Offload{})
		}
		for n := range 8 {
			compute.run(t, ip4{payload: make([]byte, n)}.bytes(), siit.Offload{})
			compute.run(t, ip4{proto: protoTCP, payload: make([]byte, n)}.bytes(), siit.Offload{})
			compute.run(t, ip4{proto: protoICMP, payload: make([]byte, n)}.bytes(), siit.Offload{})
			compute.run(t, ip6{payload: make([]byte, n)}.bytes(), siit.Offload{})
			compute.run(t, ip6{proto: protoTCP, payload: make([]byte, n)}.bytes(), siit.Offload{})
			compute.run(t, ip6{proto: protoICMPv6, payload: make([]byte, n)}.bytes(), siit.Offload{})
		}
	})
}

// TestNeutral: neutral addresses leave the bytes alone.
func TestNeutral(t *testing.T) {
	r := newRig(t, neutralConfig())
	src6 := embed(neutralPREF64, remote4)
	for proto, segment := range map[uint8][]byte{
		protoTCP: tcp(clat4, remote4, 0x18, nil, data(77)),
		protoUDP: udp(clat4, remote4, data(77)),
	} {
		p := mustParse(t, r.run(t, ip4{proto: proto, payload: segment}.bytes(), siit.Offload{}).one(t))
		if string(p.transport) != string(segment) {
			t.Errorf("protocol %d, 4to6: transport changed", proto)
		}
	}
	for proto, segment := range map[uint8][]byte{
		protoTCP: tcp(src6, neutralCLAT6, 0x18, nil, data(77)),
		protoUDP: udp(src6, neutralCLAT6, data(77)),
	} {
		p := mustParse(t, r.run(t, ip6{src: src6, dst: neutralCLAT6, proto: proto, payload: segment}.bytes(), siit.Offload{}).one(t))
		if string(p.transport) != string(segment) {
			t.Errorf("protocol %d, 6to4: transport changed", proto)
		}
	}
}

// TestNeutralButForSome: the CLAT's addresses are neutral, those of a host in
// its table are not. The harness checks the sums.
func TestNeutralButForSome(t *testing.T) {
	cfg := neutralConfig()
	cfg.Mapping.EAM = []siit.EAM{eam("192.0.2.0/28", "2001:db8:cccc::/124")}
	r := newRig(t, cfg)
	guest4, guest6, src6 := netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("2001:db8:cccc::5"), embed(neutralPREF64, remote4)
	for _, in := range [][]byte{
		ip4{src: guest4, payload: udp(guest4, remote4, data(50))}.bytes(),
		ip4{src: guest4, dst: clat4, proto: protoTCP, payload: tcp(guest4, clat4, 2, nil, nil)}.bytes(),
		ip4{dst: guest4, proto: protoTCP, payload: tcp(clat4, guest4, 2, nil, nil)}.bytes(),
		ip6{src: src6, dst: guest6, payload: udp(src6, guest6, data(50))}.bytes(),
		ip6{src: guest6, dst: neutralCLAT6, payload: udp(guest6, neutralCLAT6, data(50))}.bytes(),
	} {
		if o := r.run(t, in, siit.Offload{}); o.verdict != siit.Translated {
			t.Logf("%x: %v", in[:20], o.reason)
		}
	}
}

// TestOtherChecksums: DCCP and UDP-Lite have the pseudo-header in
// their checksums, too. Both are 16 bits at byte 6.
func TestOtherChecksums(t *testing.T) {
	const dccp, udpLite = 33, 136
	for _, cfg := range []siit.Config{hostConfig(), neutralConfig()} {
		r := newRig(t, cfg)
		src6, dst6 := embed(cfg.Mapping.PREF64, remote4), cfg.Mapping.CLAT.IPv6
		for _, proto := range []uint8{dccp, udpLite} {
			segment := func(src, dst netip.Addr) []byte {
				b := data(64)
				b[4], b[5], b[6], b[7] = 0, 0, 0, 0 // coverage: all of it
				binary.BigEndian.PutUint16(b[6:], ^transportSum(proto, src, dst, b))
				return b
			}
			for _, in := range [][]byte{
				ip4{proto: proto, payload: segment(clat4, remote4)}.bytes(),
				ip6{src: src6, dst: dst6, proto: proto, payload: segment(src6, dst6)}.bytes(),
			} {
				p := mustParse(t, r.run(t, in, siit.Offload{}).one(t))
				if sum := transportSum(proto, p.src, p.dst, p.transport); !sameSum(sum, 0xffff) {
					t.Errorf("protocol %d, to IPv%d: sum %#x", proto, p.version, sum)
				}
			}
		}
	}
}
