package steer

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"tnat64d/siit"
	tundev "tnat64d/tun"
)

// A datagram whose first fragment is refused is refused whole, and one that has begun
// is admitted whole. Packets that are no fragments are admitted always.
func TestAdmit(t *testing.T) {
	s := loaded(t, true)
	all, err := s.FragmentProgress()
	if err != nil {
		t.Fatal(err)
	}
	progress := all[0]
	admitted := func(ethertype uint16, packet []byte) bool {
		n, _ := run(t, s.objects.Admit, ethernet(make([]byte, 6), make([]byte, 6), ethertype, packet))
		return n != 0
	}
	v4 := func(id, fragment uint16) bool {
		p := rawIPv4(protoUDP, 64, fragment, nil, make([]byte, 64))
		binary.BigEndian.PutUint16(p[4:], id)
		return admitted(etherIPv4, p)
	}
	v6 := func(id uint32, offset uint16) bool {
		h := binary.BigEndian.AppendUint16([]byte{protoUDP, 0}, offset)
		return admitted(etherIPv6, ipv6(plat6, clat6, 44, append(binary.BigEndian.AppendUint32(h, id), make([]byte, 64)...)))
	}
	const first, middle, last = 0x2000, 0x2010, 0x0020
	begun := uint16(0)
	for v4(begun, first) {
		if begun++; begun > 2000 {
			t.Fatal("2000 fragments wait, and none has been refused")
		}
	}
	refused := begun
	for _, fragment := range []uint16{middle, last} {
		if !v4(begun-1, fragment) {
			t.Errorf("fragment %#x of a datagram that has begun is refused", fragment)
		}
		if v4(refused, fragment) {
			t.Errorf("fragment %#x of a datagram that was refused is admitted", fragment)
		}
	}
	if v6(1, 1) || v6(1, 0x80) {
		t.Error("IPv6 fragments are admitted")
	}
	if c, err := s.Counters(); err != nil || c.Dropped[FragmentBacklog] != 5 {
		t.Errorf("%d fragments were counted as refused, want 5 (%v)", c.Dropped[FragmentBacklog], err)
	}
	if !v6(2, 0x80) {
		t.Error("a later fragment of another IPv6 datagram is refused")
	}
	for what, ok := range map[string]bool{
		"whole IPv4":       v4(7, 0x4000),
		"whole IPv6":       admitted(etherIPv6, udp(plat6, clat6, 64)),
		"a cut short IPv6": admitted(etherIPv6, ipv6(plat6, clat6, 44, nil)),
	} {
		if !ok {
			t.Errorf("%s is refused", what)
		}
	}

	progress.Finished(int(begun), int(begun), false)
	if v4(refused, last) {
		t.Error("the last fragment of a datagram that was refused is admitted when there is room")
	}
	if !v4(refused, first) || !v4(refused, last) {
		t.Error("a datagram with an identification that was refused before is refused when there is room")
	}

	// Fragments that the queue had no room for are never read. They count until the
	// queue is found empty, or as many packets were read as it can hold.
	full := func() {
		t.Helper()
		for id := uint16(3000); v4(id, first); id++ {
		}
	}
	full()
	progress.Finished(1, 0, false)
	if v4(1, first) {
		t.Error("a datagram begins in a full queue")
	}
	progress.Finished(1, 0, true)
	if !v4(1, first) {
		t.Error("a datagram is refused though the queue is empty")
	}
	full()
	for range 2 {
		progress.Finished(queueBound, 0, false)
	}
	if !v4(1, first) {
		t.Error("a datagram is refused though more was read than a queue can hold")
	}
}

// A queue that is full most of the time holds whole datagrams.
func TestQueueHoldsWholeDatagrams(t *testing.T) {
	l := newLab(t)
	var d *tundev.Device
	l.laptop.do(t, func() (err error) { d, err = tundev.Open("clat1", 1); return err })
	t.Cleanup(func() { d.Close() })
	l.laptop.do(t, func() error { return l.laptop.nl.LinkSetIP6AddrGenMode(l.laptop.link(t, "clat1"), 1) })
	l.tun = &tun{name: "clat1", index: d.Index}
	l.laptop.up(t, "clat1")
	l.laptop.do(t, func() error { return l.laptop.nl.LinkSetTxQLen(l.laptop.link(t, "clat1"), clatQueueLen) })
	l.ipv4On(t, "clat1", plainConfig, 1480)
	var s *Steering
	l.laptop.do(t, func() (err error) {
		s, err = New(Config{Uplink: l.laptop.index(t, l.uplink), TUN: d.Index, Ours: plainConfig.Mapping.Ours(), Queues: 1})
		return err
	})
	t.Cleanup(func() { s.Close() })
	if err := d.SetFilter(s.AdmitProgram()); err != nil {
		t.Fatal(err)
	}
	progress, err := s.FragmentProgress()
	if err != nil {
		t.Fatal(err)
	}

	c := l.laptop.socket(t, "udp4", netip.AddrPortFrom(clat4, 0))
	const sent, size = 2000, 4000
	bytes := map[uint16]int{}
	buf := make([]byte, 1<<16)
	read := func() {
		n, _, err := d.Queues[0].Read(buf, siit.Headroom)
		if err != nil {
			t.Fatal(err)
		}
		fragments := 0
		if p := buf[siit.Headroom:][:n]; p[0] == 0x45 && p[9] == protoUDP {
			bytes[binary.BigEndian.Uint16(p[4:])] += n - 20
			fragments = 1
		}
		progress[0].Finished(1, fragments, d.Queues[0].Empty())
	}
	for range sent {
		if _, err := c.WriteToUDPAddrPort(make([]byte, size), netip.AddrPortFrom(plat4, 9)); err != nil {
			t.Fatal(err)
		}
		read() // a third of what is sent
	}
	for !d.Queues[0].Empty() {
		read()
	}
	whole := 0
	for id, n := range bytes {
		if n == 8+size {
			whole++
		} else {
			t.Errorf("of the datagram with identification %d %d of %d bytes have arrived", id, n, 8+size)
		}
	}
	if whole < sent/3 {
		t.Errorf("%d of %d datagrams are whole, want %d", whole, sent, sent/3)
	}
}
