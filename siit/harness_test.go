package siit_test

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"slices"
	"testing"

	"tnat64d/siit"
)

// Every packet of every test goes through the harness. It lends the translator
// memory with canaries around it, and checks whatever must hold for any
// packet; a test adds what must hold for its own.

// outcome is a siit.Result with its packets copied.
type outcome struct {
	verdict siit.Verdict
	reason  siit.Reason
	packets []siit.Packet // Off is 0
}

func (o outcome) String() string {
	s := fmt.Sprintf("%v %v", o.verdict, o.reason)
	for _, p := range o.packets {
		s += fmt.Sprintf("\n  %x", p.Bytes()[:min(len(p.Bytes()), 160)])
		if p.Offload != (siit.Offload{}) {
			s += fmt.Sprintf(" %+v", p.Offload)
		}
	}
	return s
}

func (o outcome) equal(q outcome) bool {
	return o.verdict == q.verdict && o.reason == q.reason && slices.EqualFunc(o.packets, q.packets, func(a, b siit.Packet) bool {
		return a.Offload == b.Offload && bytes.Equal(a.Bytes(), b.Bytes())
	})
}

const (
	guardSize    = 48 // canary bytes on either side
	canaryFirst  = 0xa5
	canarySecond = 0x3c
)

// rig is a translator with what it takes to run it twice.
type rig struct {
	cfg     siit.Config
	tr      *siit.Translator
	scratch [2]*siit.Scratch
	buf     []byte
}

func newRig(t testing.TB, cfg siit.Config) *rig {
	t.Helper()
	tr, err := siit.New(cfg)
	if err != nil {
		t.Fatalf("New(%+v): %v", cfg, err)
	}
	return &rig{cfg: withDefaults(cfg), tr: tr, scratch: [2]*siit.Scratch{siit.NewScratch(7), siit.NewScratch(7)}}
}

// withDefaults fills in what siit.Config documents as its defaults.
func withDefaults(cfg siit.Config) siit.Config {
	if cfg.MTU6 == 0 {
		cfg.MTU6 = 1500
	}
	if cfg.MTU4 == 0 {
		cfg.MTU4 = cfg.MTU6 - 20
	}
	if cfg.LowestIPv6MTU == 0 {
		cfg.LowestIPv6MTU = 1280
	}
	if !cfg.ICMPSource4.IsValid() {
		cfg.ICMPSource4 = icmpSource4
	}
	return cfg
}

// run translates in and fails the test if anything is wrong that is wrong for
// every packet.
func (r *rig) run(t testing.TB, in []byte, off siit.Offload) outcome {
	t.Helper()
	o, err := r.try(in, off)
	if err != nil {
		t.Fatalf("%v\n in %x %+v\nout %v", err, in[:min(len(in), 200)], off, o)
	}
	return o
}

// try is run for those who want the error.
func (r *rig) try(in []byte, off siit.Offload) (outcome, error) {
	first, err := r.once(0, canaryFirst, in, off)
	if err != nil {
		return first, err
	}
	// Whoever reads outside the packet sees other bytes the second time.
	second, err := r.once(1, canarySecond, in, off)
	if err != nil {
		return second, err
	}
	if !first.equal(second) {
		return first, fmt.Errorf("the result depends on bytes outside the packet: second time %v", second)
	}
	return first, checkResult(r.cfg, in, off, first)
}

// once translates in between canaries of the given colour.
func (r *rig) once(which int, canary byte, in []byte, off siit.Offload) (o outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	n := guardSize + siit.Headroom + len(in) + guardSize
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	mem := r.buf[:n:n]
	for i := range mem {
		mem[i] = canary
	}
	start := guardSize + siit.Headroom
	copy(mem[start:], in)
	// The guard on the left is part of Buf, that on the right only of its
	// capacity: both may be reached by a wrong index.
	buf := mem[: start+len(in) : n]
	res := r.tr.Translate(r.scratch[which], siit.Packet{Buf: buf, Off: start, Offload: off})

	o = outcome{verdict: res.Verdict, reason: res.Reason}
	for _, p := range res.Packets {
		if p.Off < siit.VnetHeaderLen || p.Off > len(p.Buf) {
			return o, fmt.Errorf("packet at offset %d of %d: no room for the vnet header", p.Off, len(p.Buf))
		}
		o.packets = append(o.packets, siit.Packet{Buf: bytes.Clone(p.Bytes()), Offload: p.Offload})
	}
	for i := range guardSize {
		if mem[i] != canary {
			return o, fmt.Errorf("byte %d before the headroom was written", guardSize-i)
		}
		if mem[start+len(in)+i] != canary {
			return o, fmt.Errorf("byte %d after the packet was written", i)
		}
	}
	if res.Verdict != siit.Translated && !bytes.Equal(mem[start:start+len(in)], in) {
		return o, fmt.Errorf("%v, but the packet was changed", res.Verdict)
	}
	// The bytes before each packet are the caller's, too: writing there must
	// not hurt any of the packets.
	for _, p := range res.Packets {
		for i := range siit.VnetHeaderLen {
			p.Buf[p.Off-siit.VnetHeaderLen+i] = 0xee
		}
	}
	for i, p := range res.Packets {
		if !bytes.Equal(p.Bytes(), o.packets[i].Bytes()) {
			return o, fmt.Errorf("packet %d lies in the vnet header room of another", i)
		}
	}
	return o, nil
}

// translate is newRig and run for tests with one packet per configuration.
func translate(t testing.TB, cfg siit.Config, in []byte) outcome {
	t.Helper()
	return newRig(t, cfg).run(t, in, siit.Offload{})
}

// one returns the only packet of a translation.
func (o outcome) one(t testing.TB) []byte {
	t.Helper()
	if o.verdict != siit.Translated || len(o.packets) != 1 {
		t.Fatalf("want one translated packet, got %v", o)
	}
	return o.packets[0].Bytes()
}

// reply returns the ICMP error of a refusal.
func (o outcome) reply(t testing.TB, reason siit.Reason) []byte {
	t.Helper()
	if o.verdict != siit.Reply || o.reason != reason {
		t.Fatalf("want a reply for %v, got %v", reason, o)
	}
	return o.packets[0].Bytes()
}

// dropped fails unless the packet was dropped for one of the reasons.
func (o outcome) dropped(t testing.TB, reasons ...siit.Reason) {
	t.Helper()
	for _, r := range reasons {
		if o.verdict == siit.Drop && o.reason == r {
			return
		}
	}
	t.Fatalf("want a drop for %v, got %v", reasons, o)
}

// mustParse takes a packet that came out apart.
func mustParse(t testing.TB, b []byte) parsed {
	t.Helper()
	p, err := parse(b, false)
	if err != nil {
		t.Fatalf("%v: %x", err, b)
	}
	return p
}

// mustParseQuote takes the packet that the ICMP error b quotes apart.
func mustParseQuote(t testing.TB, b []byte) parsed {
	t.Helper()
	outer := mustParse(t, b)
	if len(outer.transport) < 8 {
		t.Fatalf("no ICMP error: %x", b)
	}
	p, err := parse(outer.transport[8:], true)
	if err != nil {
		t.Fatalf("quoted packet: %v: %x", err, outer.transport[8:])
	}
	return p
}
