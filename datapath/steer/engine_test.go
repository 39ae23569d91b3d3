package steer

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"tnat64d/siit"
)

// plainConfig is a CLAT whose addresses are not checksum-neutral.
var plainConfig = siit.Config{Mapping: siit.Mapping{
	PREF64: netip.MustParsePrefix("64:ff9b::/96"),
	CLAT:   siit.Pair{IPv4: netip.MustParseAddr("192.0.0.1"), IPv6: clat6},
}}

// engineBench runs packets through the programs of the kernel engine without
// attaching them, and through siit.
type engineBench struct {
	s       *Steering
	gateway *Gateway // in the place of s
	queues  *queueStates
	scratch *siit.Scratch
	seed    uint64 // of the programs
	siit    *siit.Translator
	buf     []byte
	out     [1 << 16]byte
}

func newEngineBench(t testing.TB, linkHeader bool) *engineBench {
	t.Helper()
	return newEngineBenchFor(t, linkHeader, false)
}

// newEngineBenchFor is newEngineBench for an address that is shared with the host.
func newEngineBenchFor(t testing.TB, linkHeader, sharing bool) *engineBench {
	t.Helper()
	needsRoot(t)
	c := newConstants(1000001, linkHeader, 1000002)
	// The kernel always puts an Ethernet header in front.
	c.tunHeaderLen, c.explicit, c.sharing = ethernetLen, MaxEAM, sharing
	s := &Steering{}
	if err := s.load(c, Config{KernelEngine: true}); err != nil {
		t.Fatalf("load: %+v", err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.KernelEngine(); err != nil {
		t.Fatalf("%+v", err)
	}
	return &engineBench{s: s, queues: queueMemory(t, s), scratch: siit.NewScratch(1), seed: c.flowSeed}
}

// use makes both translate by the same configuration.
func (b *engineBench) use(t testing.TB, cfg siit.Config) {
	t.Helper()
	tr, err := siit.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.siit = tr
	if err := b.s.SetTranslation(translationOf(cfg)); err != nil {
		t.Fatal(err)
	}
	if err := b.s.SetOurs(cfg.Mapping.Ours()); err != nil {
		t.Fatal(err)
	}
}

// translationOf is what a daemon does with its configuration.
func translationOf(cfg siit.Config) *Translation {
	or := func(v, otherwise int) int {
		if v == 0 {
			return otherwise
		}
		return v
	}
	mtu6 := or(cfg.MTU6, 1500)
	return &Translation{
		IPv4:             cfg.Mapping.CLAT.IPv4,
		IPv6:             cfg.Mapping.CLAT.IPv6,
		EAM:              cfg.Mapping.EAM,
		Networks:         cfg.Mapping.Networks,
		PREF64:           cfg.Mapping.PREF64,
		MTU6:             mtu6,
		MTU4:             or(cfg.MTU4, mtu6-20),
		LowestIPv6MTU:    or(cfg.LowestIPv6MTU, 1280),
		ZeroTrafficClass: cfg.ZeroTrafficClass,
		ZeroTOS:          cfg.ZeroTOS,
		DropWKPPrivate:   cfg.DropWKPPrivate,
		LocalIPv4:        cfg.LocalIPv4,
	}
}

const stageFresh = 1 // STAGE_FRESH of bpf/stage.h

// fresh is the context of what the programs have redirected to the TUN: see
// bpf/stage.h.
func (b *engineBench) fresh() [5]uint32 {
	return [5]uint32{2: uint32(b.seed) + stageFresh, 3: uint32(b.seed >> 32)}
}

// gso is how a super-packet falls into segments.
type gso struct{ size, segs int }

// kernel gives an IP packet to the program that would see it. translated is
// what came out, nil if the packet was declined: then user space finishes with
// it at once.
func (b *engineBench) kernel(t testing.TB, packet []byte, g gso) (translated []byte) {
	t.Helper()
	translated = b.run(t, packet, g)
	if translated == nil {
		b.queues.finish()
	}
	return translated
}

// run is kernel without user space.
func (b *engineBench) run(t testing.TB, packet []byte, g gso) (translated []byte) {
	t.Helper()
	b.buf = append(b.buf[:0], make([]byte, ethernetLen)...)
	b.buf = append(b.buf, packet...)
	binary.BigEndian.PutUint16(b.buf[12:], etherIPv4)
	if packet[0]>>4 == 6 {
		binary.BigEndian.PutUint16(b.buf[12:], etherIPv6)
	}
	// A translated packet goes on to the stack, or by the neighbour table, for
	// which one more link header is put in front.
	var program *ebpf.Program
	translatedTo, strip := uint32(pass), ethernetLen
	switch {
	case b.gateway != nil:
		program = b.gateway.objects.GatewayIngress
	case packet[0]>>4 == 6:
		program = b.s.objects.TunTranslate
	default:
		program, translatedTo, strip = b.s.objects.TunEgress, redirect, 2*ethernetLen
	}
	context := skBuff{CB: b.fresh()}
	if g.size > 0 {
		context.GSOSize, context.GSOSegs = uint32(g.size), uint32(g.segs)
	}
	opts := ebpf.RunOptions{Data: b.buf, DataOut: b.out[:], Context: context}
	verdict, err := program.Run(&opts)
	if err != nil {
		t.Fatalf("run %x: %v", packet, err)
	}
	out := opts.DataOut
	switch {
	case len(out) == len(b.buf) && string(out) == string(b.buf):
		// Left alone, or by tun_translate redirected as it is, or dropped
		// since it is not to one of our addresses.
		if verdict != pass && verdict != redirect && !(verdict == drop && packet[0]>>4 == 6) {
			t.Fatalf("verdict %#x for an untouched packet: %x", verdict, packet)
		}
		return nil
	case verdict != translatedTo:
		t.Fatalf("verdict %#x for a packet that was changed: %x", verdict, packet)
	}
	return out[strip:]
}

// truth is what siit makes of the packet: one packet of the other version, or nil.
func (b *engineBench) truth(packet []byte, g gso) []byte {
	buf := append(make([]byte, siit.Headroom), packet...)
	p := siit.Packet{Buf: buf, Off: siit.Headroom}
	if g.size > 0 {
		p.GSOSize = uint16(g.size)
		switch {
		case packet[0]>>4 == 4 && packet[9] == protoTCP:
			p.GSOType = siit.GSOTCPv4
		case packet[0]>>4 == 6 && packet[6] == protoTCP:
			p.GSOType = siit.GSOTCPv6
		default:
			p.GSOType = siit.GSOUDPL4
		}
	}
	res := b.siit.Translate(b.scratch, p)
	if res.Verdict != siit.Translated || len(res.Packets) != 1 {
		return nil
	}
	return res.Packets[0].Bytes()
}
