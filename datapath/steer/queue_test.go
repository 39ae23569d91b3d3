package steer

import (
	"encoding/binary"
	"testing"
)

// Without the kernel engine both directions of a TCP connection have one queue,
// connections between the same hosts have different ones, and other packets stay
// with the fragments of their flow, and with the answers to them.
func TestSpreadFlows(t *testing.T) {
	needsRoot(t)
	c := newConstants(1000001, true, 1000002)
	c.queues = 4
	o, err := load(c)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	ports := func(src, dst uint16) []byte {
		b := binary.BigEndian.AppendUint16(nil, src)
		return append(binary.BigEndian.AppendUint16(b, dst), make([]byte, 60)...)
	}
	queue := func(ethertype uint16, packet []byte) uint32 {
		q, _ := run(t, o.SelectQueue, ethernet(make([]byte, 6), make([]byte, 6), ethertype, packet))
		return q % 4
	}
	v4 := func(protocol uint8, fragment uint16, src, dst uint16) uint32 {
		return queue(etherIPv4, rawIPv4(protocol, 64, fragment, nil, ports(src, dst)))
	}
	used := map[uint32]int{}
	for src := range uint16(64) {
		out := v4(protoTCP, 0x4000, 40000+src, 443)
		used[out]++
		if in := queue(etherIPv6, ipv6(plat6, clat6, protoTCP, ports(443, 40000+src))); in != out {
			t.Errorf("port %d: queue %d out and %d in", 40000+src, out, in)
		}
		// A super-packet of BIG TCP: TCP behind a hop-by-hop header with a jumbo payload.
		jumbo := append([]byte{protoTCP, 0, 0xc2, 4, 0, 2, 0, 0}, ports(443, 40000+src)...)
		if in := queue(etherIPv6, ipv6(plat6, clat6, 0, jumbo)); in != out {
			t.Errorf("port %d: queue %d out and %d in a super-packet", 40000+src, out, in)
		}
		if withOptions := queue(etherIPv4, rawIPv4(protoTCP, 64, 0, []byte{1, 1, 1, 0}, ports(40000+src, 443))); withOptions != out {
			t.Errorf("port %d: queue %d, with options %d", 40000+src, out, withOptions)
		}
	}
	if len(used) != 4 {
		t.Errorf("64 connections use %d of 4 queues", len(used))
	}
	used = map[uint32]int{}
	for host := range byte(64) {
		server := []byte{198, 51, 100, host}
		question, answer := rawIPv4(protoUDP, 64, 0, nil, ports(40000, 53)), ipv6(plat6, clat6, protoUDP, ports(53, 40000))
		copy(question[16:], server)
		copy(answer[20:], server)
		out := queue(etherIPv4, question)
		used[out]++
		if in := queue(etherIPv6, answer); in != out {
			t.Errorf("host %d: queue %d out and %d in", host, out, in)
		}
	}
	if len(used) != 4 {
		t.Errorf("64 hosts use %d of 4 queues", len(used))
	}
	whole := v4(protoUDP, 0, 1, 2)
	for name, other := range map[string]uint32{
		"another port":     v4(protoUDP, 0, 3, 2),
		"first fragment":   v4(protoUDP, 0x2000, 1, 2),
		"later fragment":   v4(protoUDP, 0x0010, 77, 78),
		"fragment of TCP":  v4(protoTCP, 0x2000, 5, 6),
		"another protocol": v4(50, 0, 9, 9),
	} {
		if other != whole {
			t.Errorf("%s: queue %d, want %d as UDP", name, other, whole)
		}
	}
}
