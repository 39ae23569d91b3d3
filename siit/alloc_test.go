package siit_test

import (
	"testing"

	"tnat64d/siit"
)

// sample is a packet of each kind, for tests of what a packet costs.
type sample struct {
	name    string
	verdict siit.Verdict
	in      []byte
	off     siit.Offload
}

func samples() []sample {
	m := hostConfig().Mapping
	gso := func(s super) ([]byte, siit.Offload) { s.mapping = m; return s.packet() }
	tcp4, tcp4off := gso(super{to6: true, proto: protoTCP, size: 1400, payload: 60000, partial: true, df: true})
	tcp6, tcp6off := gso(super{proto: protoTCP, size: 1400, payload: 60000, partial: true})
	udp4gso, udp4off := gso(super{to6: true, proto: protoUDP, size: 1400, payload: 60000, partial: true, df: true})
	udp6gso, udp6off := gso(super{proto: protoUDP, size: 1400, payload: 60000, partial: true})
	cut, cutOff := gso(super{to6: true, proto: protoTCP, size: 1440, payload: 60000, partial: true})
	ext := []extension{options(protoDestOpts, 2)}
	noSum := udp(clat4, remote4, data(100))
	noSum[6], noSum[7] = 0, 0
	all := []sample{
		{"4to6/TCP", siit.Translated, ip4{df: true, proto: protoTCP, payload: tcp(clat4, remote4, 0x10, nil, data(24))}.bytes(), siit.Offload{}},
		{"4to6/UDP", siit.Translated, udp4(200, true), siit.Offload{}},
		{"4to6/UDP without checksum", siit.Translated, ip4{payload: noSum}.bytes(), siit.Offload{}},
		{"4to6/echo", siit.Translated, ip4{proto: protoICMP, payload: icmp4(8, 0, 7, data(56))}.bytes(), siit.Offload{}},
		{"4to6/ICMP error", siit.Translated, error4(3, 3, 0, received4(60)), siit.Offload{}},
		{"4to6/fragment", siit.Translated, ip4{mf: true, payload: udp(clat4, remote4, data(1200))}.bytes(), siit.Offload{}},
		{"4to6/options", siit.Translated, ip4{options: []byte{1, 1, 1, 1}, payload: udp(clat4, remote4, data(64))}.bytes(), siit.Offload{}},
		{"4to6/fragmentation", siit.Translated, udp4(8000, false), siit.Offload{}},
		{"4to6/super-packet", siit.Translated, tcp4, tcp4off},
		{"4to6/UDP super-packet", siit.Translated, udp4gso, udp4off},
		{"4to6/super-packet cut up", siit.Translated, cut, cutOff},
		{"4to6/reply", siit.Reply, withTTL(udp4(200, true), 1), siit.Offload{}},
		{"4to6/reply too big", siit.Reply, udp4(1500, true), siit.Offload{}},
		{"4to6/drop", siit.Drop, ip4{proto: protoIGMP, payload: data(8)}.bytes(), siit.Offload{}},
		{"6to4/TCP", siit.Translated, ip6{proto: protoTCP, payload: tcp(remote6, clat6, 0x10, nil, data(24))}.bytes(), siit.Offload{}},
		{"6to4/UDP", siit.Translated, udp6(200), siit.Offload{}},
		{"6to4/echo", siit.Translated, ip6{proto: protoICMPv6, payload: icmp6(remote6, clat6, 129, 0, 7, data(56))}.bytes(), siit.Offload{}},
		{"6to4/ICMP error", siit.Translated, error6(remote6, 1, 4, 0, sent6(60)), siit.Offload{}},
		{"6to4/ICMP error, native", siit.Translated, error6(native6, 2, 0, 1400, sent6(1000)), siit.Offload{}},
		{"6to4/fragment", siit.Translated, ip6{ext: []extension{fragment(9, 0, true)}, payload: udp(remote6, clat6, data(1200))}.bytes(), siit.Offload{}},
		{"6to4/extension headers", siit.Translated, ip6{ext: ext, payload: udp(remote6, clat6, data(64))}.bytes(), siit.Offload{}},
		{"6to4/super-packet", siit.Translated, tcp6, tcp6off},
		{"6to4/UDP super-packet", siit.Translated, udp6gso, udp6off},
		{"6to4/reply", siit.Reply, withTTL(udp6(200), 1), siit.Offload{}},
		{"6to4/reply too big", siit.Reply, udp6(1501), siit.Offload{}},
		{"6to4/drop", siit.Drop, ip6{dst: native6, payload: data(64)}.bytes(), siit.Offload{}},
	}
	return all
}

// TestNoAllocations: whatever a packet is, it costs no memory.
func TestNoAllocations(t *testing.T) {
	cfg := hostConfig()
	cfg.NodeID = true
	small := cfg
	small.MTU4 = 600
	for name, cfg := range map[string]siit.Config{"": cfg, "small MTU4 ": small} {
		tr, err := siit.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		scratch := siit.NewScratch(1)
		for _, s := range samples() {
			t.Run(name+s.name, func(t *testing.T) {
				mem := make([]byte, siit.Headroom+len(s.in))
				var res siit.Result
				got := testing.AllocsPerRun(20, func() {
					copy(mem[siit.Headroom:], s.in)
					res = tr.Translate(scratch, siit.Packet{Buf: mem, Off: siit.Headroom, Offload: s.off})
				})
				if got != 0 {
					t.Errorf("%v allocations", got)
				}
				if name == "" && res.Verdict != s.verdict {
					t.Errorf("%v %v, want %v", res.Verdict, res.Reason, s.verdict)
				}
			})
		}
	}
}

// TestPayloadIsNotTouched: a super-packet costs what its headers cost. The
// memory behind the headers is the same before and after, byte for byte and
// at the same place, and with neutral addresses the checksum as well.
func TestPayloadIsNotTouched(t *testing.T) {
	for name, cfg := range map[string]siit.Config{"": hostConfig(), " neutral": neutralConfig()} {
		tr, err := siit.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		scratch := siit.NewScratch(1)
		for _, to6 := range []bool{true, false} {
			s := super{to6: to6, proto: protoTCP, size: 1400, payload: 60000, partial: true, df: true, mapping: cfg.Mapping}
			t.Run(s.String()+name, func(t *testing.T) {
				in, off := s.packet()
				mem := make([]byte, siit.Headroom+len(in))
				copy(mem[siit.Headroom:], in)
				res := tr.Translate(scratch, siit.Packet{Buf: mem, Off: siit.Headroom, Offload: off})
				if res.Verdict != siit.Translated || len(res.Packets) != 1 {
					t.Fatalf("%v %v", res.Verdict, res.Reason)
				}
				p := res.Packets[0]
				if &p.Buf[len(p.Buf)-1] != &mem[len(mem)-1] {
					t.Error("the packet was moved")
				}
				l4 := int(off.CsumStart)
				got := mem[siit.Headroom+l4:]
				for i := range got {
					if at := i - 16; got[i] != in[l4+i] && (name != "" || at < 0 || at > 1) {
						t.Fatalf("byte %d behind the IP header was changed", i)
					}
				}
				shift := 20
				if !to6 {
					shift = -20
				}
				if want := siit.Headroom - shift; p.Off != want {
					t.Errorf("offset %d, want %d", p.Off, want)
				}
			})
		}
	}
}
