package steer

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"tnat64d/siit"
)

// mix, flow4 are those of bpf/order.h.
func mix(hash, word uint64) uint64 {
	hash = (hash ^ word) * 0x9e3779b97f4a7c15
	return hash ^ hash>>32
}

func flow4(seed uint64, src, dst netip.Addr) uint64 {
	a, b := src.As4(), dst.As4()
	return mix(mix(seed, uint64(binary.NativeEndian.Uint32(a[:]))<<32|uint64(binary.NativeEndian.Uint32(b[:]))), 4)
}

// Flows that share an entry of last_sent keep their order, whichever queues they go to.
func TestOrderOfFlowsWithOneEntry(t *testing.T) {
	needsRoot(t)
	c := newConstants(1000001, true, 1000002)
	c.tunHeaderLen, c.queues = ethernetLen, 2
	s := &Steering{}
	if err := s.load(c, Config{KernelEngine: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b := &engineBench{s: s, queues: queueMemory(t, s), scratch: siit.NewScratch(1), seed: c.flowSeed}
	b.use(t, plainConfig)
	translates := func(packet []byte) bool { return b.run(t, packet, gso{}) != nil }

	for range 1000 {
		translates(datagram(plat4, 1300))
	}
	b.queues.finish()
	const entries = 8192 // FLOW_ENTRIES
	busy := flow4(c.flowSeed, clat4, plat4)
	found := 0
	for i := uint32(0); i < 1<<18 && found < 20; i++ {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0x2d000000+i) // 45.0.0.0/8
		other := netip.AddrFrom4(a)
		if flow4(c.flowSeed, clat4, other)%entries != busy%entries {
			continue
		}
		found++
		for range 100 { // of the one flow, which wait
			translates(datagram(plat4, 1300))
		}
		translates(datagram(other, 1300))
		if translates(datagram(plat4, 10)) {
			t.Errorf("after a packet to %s, a packet overtakes the 100 of its flow that wait in user space: queues %v", other, []uint64{b.queues.all[0].sent, b.queues.all[1].sent})
			return
		}
	}
	if found == 0 {
		t.Error("no flow shares the entry")
	}
}

// A super-packet that the kernel cuts for the TUN has as many numbers as user space
// reads packets: if it had one, those behind it would count as finished too soon.
func TestOrderBehindCutSuperPackets(t *testing.T) {
	b := newEngineBench(t, true)
	b.use(t, plainConfig)
	q := &b.queues.all[0]
	slow := func(protocol byte) []byte { // by its option
		d := make([]byte, 3000)
		d[12] = 5 << 4 // of TCP: the length of its header
		return rawIPv4(protocol, 64, 0, []byte{148, 4, 0, 0}, d)
	}
	for _, c := range []struct {
		name     string
		cuts     uint64
		protocol byte
		want     uint64
	}{{"UDP, whole", 0, protoUDP, 1}, {"UDP, cut", 1, protoUDP, 3}, {"TCP", 1, protoTCP, 1}} {
		q.cutsUDP = c.cuts
		before := q.sent
		if b.run(t, slow(c.protocol), gso{1000, 3}) != nil {
			t.Fatalf("%s: translated by the kernel engine", c.name)
		}
		if got := q.sent - before; got != c.want {
			t.Errorf("%s: counted as %d packets, want %d", c.name, got, c.want)
		}
		b.queues.finish()
	}
	q.cutsUDP = 1
	b.run(t, slow(protoUDP), gso{1000, 3})
	for range 2 { // packets read
		q.finished++
		if b.run(t, datagram(plat4, 10), gso{}) != nil {
			t.Error("a datagram overtakes the rest of a super-packet")
		}
	}
	b.queues.finish()
	if b.run(t, datagram(plat4, 10), gso{}) == nil {
		t.Error("not translated although nothing waits")
	}
}
