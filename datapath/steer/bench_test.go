package steer

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"tnat64d/siit"
)

// benchPacket is a packet for one of the programs.
type benchPacket struct {
	name     string
	program  *ebpf.Program
	packets  [][]byte // in turn
	segments int      // of a super-packet, 0: it is none
	verdict  uint32
}

// countRuns makes the kernel count the time of BPF programs while b runs.
func countRuns(b *testing.B) {
	b.Helper()
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { stats.Close() })
}

// bench reports the time that the kernel counts for a run of the program
// (BPF_ENABLE_STATS), the median of hundreds of runs, in the place of that of the
// system call which runs it.
func (p benchPacket) bench(b *testing.B, cb [5]uint32) {
	var each []float64 // of some runs, as a machine that is busy interrupts a few
	before, err := p.program.Stats()
	if err != nil {
		b.Fatal(err)
	}
	context := skBuff{CB: cb}
	if p.segments > 0 {
		context.GSOSize, context.GSOSegs = 1000, uint32(p.segments)
	}
	out := make([]byte, 4096)
	b.ResetTimer()
	for i := range b.N {
		packet := p.packets[i%len(p.packets)]
		ethertype := uint16(etherIPv4)
		if packet[0]>>4 == 6 {
			ethertype = etherIPv6
		}
		verdict, err := p.program.Run(&ebpf.RunOptions{Data: ethernet(nil, nil, ethertype, packet), DataOut: out, Context: context})
		if err != nil || verdict != p.verdict {
			b.Fatalf("verdict %#x, want %#x: %v", verdict, p.verdict, err)
		}
		if (i+1)%100 > 0 && i+1 < b.N {
			continue
		}
		after, err := p.program.Stats()
		if err != nil {
			b.Fatal(err)
		}
		each = append(each, float64(after.Runtime-before.Runtime)/float64(after.RunCount-before.RunCount))
		before = after
	}
	slices.Sort(each)
	b.ReportMetric(each[len(each)/2], "ns/op")
	b.ReportMetric(0, "allocs/op") // those are of the system call
	b.ReportMetric(0, "B/op")
	b.ReportAllocs()
}

// as4 is an IPv6 packet without extension headers as one of IPv4. Its transport
// checksum is any.
func as4(packet []byte, src, dst netip.Addr) []byte {
	p := ipv4(src, dst)[:20]
	binary.BigEndian.PutUint16(p[2:], uint16(20+len(packet)-40))
	binary.BigEndian.PutUint16(p[6:], 0x4000)
	p[8], p[9] = 64, packet[6]
	p = append(p, packet[40:]...)
	fixHeaderChecksum(p)
	return p
}

const benchSuper = 3000 // bytes of payload in a super-packet

// BenchmarkKernelEngine runs each program of a CLAT's kernel engine.
func BenchmarkKernelEngine(b *testing.B) {
	e := newEngineBench(b, true)
	countRuns(b)
	e.use(b, plainConfig)
	if err := e.s.SetRouter(router6); err != nil {
		b.Fatal(err)
	}
	near, far := plainConfig.Mapping.CLAT.IPv4, netip.MustParseAddr("192.0.2.1")
	datagram, ack, data := udp(plat6, clat6, 64), tcpSuper(plat6, clat6, 0), tcpSuper(plat6, clat6, benchSuper)
	up := func(p []byte) [][]byte { return [][]byte{as4(p, near, far)} }
	o := e.s.objects
	for _, p := range []benchPacket{
		{"UDP_up", o.TunEgress, up(datagram), 0, redirect},
		{"ACK_up", o.TunEgress, up(ack), 0, redirect},
		{"TCP_up", o.TunEgress, up(data), 3, redirect},
		{"UDP_down_uplink", o.UplinkTranslate, [][]byte{datagram}, 0, redirect},
		{"UDP_down", o.TunTranslate, [][]byte{datagram}, 0, pass},
		{"ACK_down", o.TunTranslate, [][]byte{ack}, 0, pass},
		{"TCP_down", o.TunTranslate, [][]byte{data}, 3, pass},
	} {
		b.Run(p.name, func(b *testing.B) { p.bench(b, e.fresh()) })
	}
}

// BenchmarkKernelEAM runs the kernel engine of a CLAT with so many explicit address
// mappings. Packets go to addresses that are in none, or in 1,024 different ones.
func BenchmarkKernelEAM(b *testing.B) {
	e := newEngineBench(b, true)
	countRuns(b)
	if err := e.s.SetRouter(router6); err != nil {
		b.Fatal(err)
	}
	near := plainConfig.Mapping.CLAT.IPv4
	for _, n := range []int{0, 10, 100, 1_000, 10_000} {
		cfg := plainConfig
		for i := range n {
			h := numbered(netip.MustParseAddr("198.18.0.0"), i)
			cfg.Mapping.EAM = append(cfg.Mapping.EAM, siit.EAM{IPv4: netip.PrefixFrom(h.IPv4, 32), IPv6: netip.PrefixFrom(h.IPv6, 128)})
		}
		e.use(b, cfg)
		var miss, hit [][]byte
		for i := range 1024 {
			miss = append(miss, as4(udp(plat6, clat6, 64), near, netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})))
			if n > 0 {
				hit = append(hit, as4(udp(plat6, clat6, 64), near, cfg.Mapping.EAM[i*7919%n].IPv4.Addr())) // 7919 is prime: no order
			}
		}
		for _, p := range []benchPacket{
			{"miss", e.s.objects.TunEgress, miss, 0, redirect},
			{"hit", e.s.objects.TunEgress, hit, 0, redirect},
		} {
			if len(p.packets) > 0 {
				b.Run(fmt.Sprintf("%s/%d", p.name, n), func(b *testing.B) { p.bench(b, e.fresh()) })
			}
		}
	}
}

// numbered is the i-th of a row of IPv4 addresses, with an IPv6 address of its own.
func numbered(first netip.Addr, i int) siit.Pair {
	v4, v6 := first.As4(), netip.MustParseAddr("2001:db9:1::").As16()
	binary.BigEndian.PutUint32(v4[:], binary.BigEndian.Uint32(v4[:])+uint32(i))
	binary.BigEndian.PutUint32(v6[8:], uint32(i)*2654435761)
	return siit.Pair{IPv4: netip.AddrFrom4(v4), IPv6: netip.AddrFrom16(v6)}
}

// BenchmarkKernelHosts runs the kernel engine of a gateway that has so many hosts,
// all of which send and get packets.
func BenchmarkKernelHosts(b *testing.B) {
	countRuns(b)
	for _, n := range []int{1, 10, 100, 1_000, 10_000, 100_000} {
		var hosts []siit.Pair
		for i := range n {
			hosts = append(hosts, numbered(netip.MustParseAddr("100.64.0.0"), i))
		}
		e := newGatewayBench(b, n)
		e.serve(b, siit.Config{Mapping: siit.Mapping{PREF64: plainConfig.Mapping.PREF64}, PoolIPv4: netip.MustParsePrefix("100.64.0.0/15")}, hosts)
		var up, down [][]byte
		far := netip.MustParseAddr("192.0.2.1")
		for i := range 1024 {
			h := hosts[i*7919%n] // 7919 is prime: no order
			up = append(up, udp(h.IPv6, plat6, 64))
			down = append(down, as4(udp(plat6, h.IPv6, 64), far, h.IPv4))
		}
		for _, p := range []benchPacket{
			{"up", e.gateway.objects.GatewayIngress, up, 0, pass},
			{"down", e.gateway.objects.GatewayIngress, down, 0, pass},
		} {
			b.Run(fmt.Sprintf("%s/%d", p.name, n), func(b *testing.B) { p.bench(b, e.fresh()) })
		}
		if err := e.gateway.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSharing runs each program of the kernel engine for an address of the
// CLAT's own and for one that it shares with the host, in turn. The flows are
// established.
func BenchmarkSharing(b *testing.B) {
	countRuns(b)
	near, far := plainConfig.Mapping.CLAT.IPv4, netip.MustParseAddr("192.0.2.1")
	datagram, ack, data := udp(plat6, clat6, 64), tcpSuper(plat6, clat6, 0), tcpSuper(plat6, clat6, benchSuper)
	up := func(p []byte) [][]byte {
		p = slices.Clone(p)
		copy(p[40:], []byte{p[42], p[43], p[40], p[41]}) // the ports of an answer
		return [][]byte{as4(p, near, far)}
	}
	var engines [2]*engineBench
	for i, shared := range []bool{false, true} {
		e := newEngineBenchFor(b, true, shared)
		e.use(b, plainConfig)
		if err := e.s.SetRouter(router6); err != nil {
			b.Fatal(err)
		}
		if shared {
			if err := e.s.SetShared(Share{Addr: plainConfig.Mapping.CLAT.IPv6, PREF64: plainConfig.Mapping.PREF64, IPv4: near}); err != nil {
				b.Fatal(err)
			}
		}
		engines[i] = e
	}
	own, shared := engines[0].s.objects, engines[1].s.objects
	programs := map[string][2]*ebpf.Program{
		"up":          {own.TunEgress, shared.SharingTunEgress},
		"down_uplink": {own.UplinkTranslate, shared.SharingTranslate},
		"down":        {own.TunTranslate, shared.SharingTunTranslate},
	}
	for _, p := range []struct {
		name, program string
		packets       [][]byte
		segments      int
		verdict       uint32
	}{
		{"UDP_up_new", "up", up(datagram), 0, redirect},
		{"UDP_down_uplink", "down_uplink", [][]byte{datagram}, 0, redirect},
		{"UDP_up", "up", up(datagram), 0, redirect},
		{"UDP_down", "down", [][]byte{datagram}, 0, pass},
		{"TCP_up_new", "up", up(data), 3, redirect},
		{"TCP_down_uplink", "down_uplink", [][]byte{data}, 3, redirect},
		{"TCP_up", "up", up(data), 3, redirect},
		{"ACK_up", "up", up(ack), 0, redirect},
		{"TCP_down", "down", [][]byte{data}, 3, pass},
	} {
		for i, name := range []string{"own", "shared"} {
			b.Run(p.name+"/"+name, func(b *testing.B) {
				benchPacket{p.name, programs[p.program][i], p.packets, p.segments, p.verdict}.bench(b, engines[i].fresh())
			})
		}
	}
}
