package siit_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"tnat64d/siit"
)

// The virtio-net header comes from the kernel, or through it from somebody
// else's virtual machine. When it lies the packet is dropped for bad-offload,
// or the lie does no harm: the harness checks that nothing outside the packet
// is read or written, and that what comes out fits its own header.

// liars are the packets that the virtio-net headers are wrong about.
func liars() map[string][]byte {
	b := map[string][]byte{
		"TCP":           ip4{proto: protoTCP, df: true, payload: tcp(clat4, remote4, 0x18, nil, data(3000))}.bytes(),
		"TCP DF=0":      ip4{proto: protoTCP, payload: tcp(clat4, remote4, 0x18, nil, data(3000))}.bytes(),
		"small TCP":     ip4{proto: protoTCP, df: true, payload: tcp(clat4, remote4, 2, nil, nil)}.bytes(),
		"UDP":           ip4{df: true, payload: udp(clat4, remote4, data(3000))}.bytes(),
		"UDP DF=0":      ip4{payload: udp(clat4, remote4, data(3000))}.bytes(),
		"empty UDP":     ip4{payload: udp(clat4, remote4, nil)}.bytes(),
		"ICMP":          ip4{proto: protoICMP, payload: icmp4(8, 0, 1, data(60))}.bytes(),
		"ICMP error":    error4(3, 3, 0, received4(60)),
		"ESP":           ip4{proto: protoESP, payload: data(100)}.bytes(),
		"options":       ip4{proto: protoTCP, options: []byte{1, 1, 1, 1}, df: true, payload: tcp(clat4, remote4, 0x18, nil, data(3000))}.bytes(),
		"fragment":      ip4{mf: true, payload: udp(clat4, remote4, data(1200))}.bytes(),
		"later":         ip4{offset: 1480, proto: protoTCP, payload: data(1200)}.bytes(),
		"header only":   ip4{proto: protoTCP}.bytes(),
		"half TCP":      ip4{proto: protoTCP, payload: data(12)}.bytes(),
		"6 TCP":         ip6{proto: protoTCP, payload: tcp(remote6, clat6, 0x18, nil, data(3000))}.bytes(),
		"6 UDP":         ip6{payload: udp(remote6, clat6, data(3000))}.bytes(),
		"6 ICMP":        ip6{proto: protoICMPv6, payload: icmp6(remote6, clat6, 129, 0, 1, data(60))}.bytes(),
		"6 ICMP error":  error6(remote6, 1, 4, 0, sent6(60)),
		"6 extensions":  ip6{proto: protoTCP, ext: []extension{options(protoDestOpts, 2)}, payload: tcp(remote6, clat6, 0x18, nil, data(3000))}.bytes(),
		"6 fragment":    ip6{ext: []extension{fragment(9, 0, true)}, payload: udp(remote6, clat6, data(1200))}.bytes(),
		"6 atomic":      ip6{ext: []extension{fragment(9, 0, false)}, payload: udp(remote6, clat6, data(1200))}.bytes(),
		"6 later":       ip6{ext: []extension{fragment(9, 64, false)}, proto: protoTCP, payload: data(1200)}.bytes(),
		"6 half TCP":    ip6{proto: protoTCP, payload: data(12)}.bytes(),
		"6 empty":       ip6{proto: protoTCP}.bytes(),
		"6 ESP":         ip6{proto: protoESP, payload: data(60)}.bytes(),
		"nothing at IP": {0x45},
	}
	long := slices.Clone(b["TCP"])
	long[20+12] = 0xf0 // a TCP header of 60 bytes that swallows payload
	b["long TCP header"] = long
	bad := slices.Clone(b["TCP"])
	bad[20+12] = 0x40 // of 16 bytes
	b["short TCP header"] = bad
	small := ip4{proto: protoTCP, payload: tcp(clat4, remote4, 2, nil, nil)}.bytes()
	small[20+12] = 0xf0 // of 60 bytes in a segment of 20
	b["TCP header beyond the packet"] = small
	return b
}

// harmless runs in and accepts a drop for bad-offload and whatever the harness
// has nothing against.
func harmless(t *testing.T, r *rig, in []byte, off siit.Offload) {
	t.Helper()
	o, err := r.try(in, off)
	if err != nil {
		t.Fatalf("%v\noffload %+v\n in %x\nout %v", err, off, in[:min(len(in), 100)], o)
	}
}

func TestLyingOffload(t *testing.T) {
	r := newRig(t, hostConfig())
	types := []uint8{siit.GSONone, siit.GSOTCPv4, siit.GSOTCPv6, siit.GSOUDPL4, siit.GSOTCPv4 | siit.GSOECN, siit.GSOUDPL4 | siit.GSOECN, siit.GSOECN, 2, 3, 6, 0x7f, 0xff}
	for name, in := range liars() {
		t.Run(name, func(t *testing.T) {
			for _, typ := range types {
				for _, size := range []uint16{0, 1, 8, 536, 1400, 2999, 3000, 3001, 0xffff} {
					for _, start := range []uint16{0, 19, 20, 24, 40, 60, uint16(len(in)) - 1, uint16(len(in)), 0xffff} {
						for _, offset := range []uint16{0, 6, 16, 0xffff} {
							harmless(t, r, in, siit.Offload{Flags: siit.NeedsCsum, GSOType: typ, GSOSize: size, HdrLen: start, CsumStart: start, CsumOffset: offset})
						}
					}
					harmless(t, r, in, siit.Offload{GSOType: typ, GSOSize: size})
				}
			}
		})
	}
	t.Run("checksum into the header fields", func(t *testing.T) {
		// Of a UDP packet without checksum, so that the length that is
		// written over is also used.
		in := ip4{payload: udp(clat4, remote4, data(16))}.bytes()
		in[26], in[27] = 0, 0
		for start := uint16(20); start < 44; start++ {
			for offset := range uint16(24) {
				harmless(t, r, in, siit.Offload{Flags: siit.NeedsCsum, CsumStart: start, CsumOffset: offset})
			}
		}
	})
	t.Run("random", func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(5, 6))
		all := liars()
		names := make([]string, 0, len(all))
		for name := range all {
			names = append(names, name)
		}
		slices.Sort(names)
		for range 20000 {
			word := func() uint16 {
				if rnd.IntN(3) == 0 {
					return uint16(rnd.IntN(80))
				}
				return uint16(rnd.Uint32())
			}
			off := siit.Offload{Flags: uint8(rnd.IntN(4)), GSOType: types[rnd.IntN(len(types))], GSOSize: word(), HdrLen: word(), CsumStart: word(), CsumOffset: word()}
			harmless(t, r, all[names[rnd.IntN(len(names))]], off)
		}
	})
}

// TestOffloadRefused are the lies that cannot be made good.
func TestOffloadRefused(t *testing.T) {
	r := newRig(t, hostConfig())
	all := liars()
	tcp4 := siit.Offload{Flags: siit.NeedsCsum, GSOType: siit.GSOTCPv4, GSOSize: 1400, HdrLen: 40, CsumStart: 20, CsumOffset: 16}
	udp4 := siit.Offload{Flags: siit.NeedsCsum, GSOType: siit.GSOUDPL4, GSOSize: 1400, HdrLen: 28, CsumStart: 20, CsumOffset: 6}
	tcp6 := siit.Offload{Flags: siit.NeedsCsum, GSOType: siit.GSOTCPv6, GSOSize: 1400, HdrLen: 60, CsumStart: 40, CsumOffset: 16}
	with := func(o siit.Offload, change func(o *siit.Offload)) siit.Offload { change(&o); return o }
	for _, c := range []struct {
		packet string
		off    siit.Offload
	}{
		{"UDP", tcp4}, {"TCP", udp4}, {"TCP", tcp6}, {"6 TCP", tcp4}, {"ICMP", tcp4}, {"ESP", udp4}, {"6 ICMP", tcp6},
		{"fragment", udp4}, {"later", tcp4}, {"6 fragment", siit.Offload{GSOType: siit.GSOUDPL4, GSOSize: 400, HdrLen: 56}},
		{"short TCP header", tcp4}, {"TCP header beyond the packet", tcp4}, {"half TCP", tcp4}, {"header only", tcp4},
		{"TCP", with(tcp4, func(o *siit.Offload) { o.GSOSize = 0 })},
		{"TCP", with(tcp4, func(o *siit.Offload) { o.GSOType = 3 })}, // UFO, gone from Linux
		{"TCP", with(tcp4, func(o *siit.Offload) { o.CsumStart = 0xffff })},
		{"TCP", with(tcp4, func(o *siit.Offload) { o.CsumOffset = 0xffff })},
		{"UDP", siit.Offload{Flags: siit.NeedsCsum, CsumStart: 3027, CsumOffset: 0}},
		{"fragment", siit.Offload{Flags: siit.NeedsCsum, CsumStart: 20, CsumOffset: 6}},
	} {
		t.Run(fmt.Sprintf("%s %+v", c.packet, c.off), func(t *testing.T) {
			r.run(t, all[c.packet], c.off).dropped(t, siit.BadOffload)
		})
	}
}

// TestForeignChecksum: the checksum to be completed is inside a tunnel. It
// means the same after translation, and has to come out right.
func TestForeignChecksum(t *testing.T) {
	r := newRig(t, hostConfig())
	inner := ip4{payload: udp(clat4, remote4, data(64))}.bytes()
	binary.BigEndian.PutUint16(inner[26:], pseudoSum(protoUDP, clat4, remote4, 72))
	gre := append([]byte{0, 0, 8, 0}, inner...)
	for _, in := range [][]byte{
		ip4{proto: 47, df: true, payload: gre}.bytes(),
		ip6{proto: 47, payload: gre}.bytes(),
	} {
		p := mustParse(t, in)
		off := siit.Offload{Flags: siit.NeedsCsum, CsumStart: uint16(p.headerLen + 24), CsumOffset: 6}
		before, err := segment(siit.Packet{Buf: in, Offload: off})
		if err != nil {
			t.Fatal(err)
		}
		o := r.run(t, in, off)
		if o.verdict == siit.Drop {
			o.dropped(t, siit.BadOffload)
			t.Log("dropped")
			continue
		}
		after, err := segment(o.packets[0])
		if err != nil {
			t.Fatal(err)
		}
		q := mustParse(t, after[0])
		if string(q.transport) != string(mustParse(t, before[0]).transport) {
			t.Errorf("to IPv%d: %x", q.version, q.transport)
		}
	}
}
