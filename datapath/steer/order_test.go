package steer

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// queueMemory returns the memory that the programs share with user space.
func queueMemory(t testing.TB, s *Steering) *queueStates {
	t.Helper()
	q, err := mapQueueStates(s.objects.QueueStates)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// finish does what user space does when it has read and written everything.
func (q *queueStates) finish() {
	for i := range q.all {
		atomic.StoreUint64(&q.all[i].finished, atomic.LoadUint64(&q.all[i].sent))
	}
}

// datagram is an IPv4 datagram from the CLAT that the kernel engine translates if
// it is small enough to need no fragments.
func datagram(dst netip.Addr, size int) []byte {
	d := make([]byte, 8+size)
	d[1], d[3] = 7, 9
	binary.BigEndian.PutUint16(d[4:], uint16(len(d)))
	pseudo := append(append(clat4.AsSlice(), dst.AsSlice()...), 0, protoUDP, d[4], d[5])
	sum := append(pseudo, d...)
	binary.BigEndian.PutUint16(d[6:], ^foldWords(append(sum, make([]byte, len(sum)%2)...)))
	p := rawIPv4(protoUDP, 64, 0, nil, d)
	copy(p[16:], dst.AsSlice())
	fixHeaderChecksum(p)
	return p
}

// The kernel engine declines what could overtake a packet in user space, and
// nothing else.
func TestOrder(t *testing.T) {
	b := newEngineBench(t, true)
	b.use(t, plainConfig)
	other4 := netip.MustParseAddr("198.51.100.1")
	fragment := func() []byte { return rawIPv4(protoUDP, 64, 0x0010, nil, make([]byte, 16)) }
	small6 := udp(plat6, clat6, 10)

	translates := func(packet []byte, want bool) {
		t.Helper()
		if got := b.run(t, packet, gso{}) != nil; got != want {
			t.Fatalf("translated: %v, want %v: %x", got, want, packet)
		}
	}
	for name, slow := range map[string][]byte{
		"large datagram": datagram(plat4, 1300),
		"fragment":       fragment(),
		"options":        rawIPv4(protoUDP, 64, 0, []byte{148, 4, 0, 0}, make([]byte, 16)),
		"other protocol": rawIPv4(50, 64, 0, nil, make([]byte, 20)),
	} {
		t.Run(name, func(t *testing.T) {
			translates(datagram(plat4, 10), true)
			before := engineCounters(t, b.s)
			translates(slow, false)
			translates(datagram(plat4, 10), false)
			translates(datagram(plat4, 10), false)
			if n := engineCounters(t, b.s).To6.Declined[DeclinedOrder] - before.To6.Declined[DeclinedOrder]; n != 2 {
				t.Errorf("%d packets were counted as declined for order, want 2", n)
			}
			translates(datagram(other4, 10), true) // another flow
			translates(small6, true)               // the other direction
			b.queues.all[0].finished += 2
			translates(datagram(plat4, 10), false)
			b.queues.finish()
			translates(datagram(plat4, 10), true)
		})
	}

	// A flow counts as behind until as many more packets are finished with as
	// there are processors.
	b.queues.finish()
	t.Run("IPv6", func(t *testing.T) {
		slow := udp(plat6, clat6, 10)
		slow[7] = 1 // hop limit
		translates(slow, false)
		run(t, b.s.objects.TunEgress, ethernet(make(net.HardwareAddr, 6), make(net.HardwareAddr, 6), etherIPv6, slow)) // where tun_translate redirects it
		translates(small6, false)
		b.queues.finish()
		translates(small6, true)
	})
	t.Run("another flow keeps the queue busy", func(t *testing.T) {
		translates(datagram(plat4, 1300), false)
		q := &b.queues.all[0]
		q.finished = q.sent - 1
		translates(datagram(other4, 1300), false)
		translates(datagram(plat4, 10), false)
		for range 1000 {
			translates(datagram(other4, 1300), false)
		}
		q.finished = q.sent - 100
		translates(datagram(plat4, 10), true)
		translates(datagram(other4, 10), false)
		b.queues.finish()
	})
	t.Run("while the kernel engine is off", func(t *testing.T) {
		if err := b.s.SetTranslation(nil); err != nil {
			t.Fatal(err)
		}
		translates(datagram(plat4, 10), false)
		b.use(t, plainConfig)
		translates(datagram(plat4, 10), false)
		b.queues.finish()
		translates(datagram(plat4, 10), true)
	})
}

// What user space never gets, because a queue was full, does not count for ever,
// and nothing counts before it has been read.
func TestProgress(t *testing.T) {
	memory := &queueStates{all: make([]queueState, 1)}
	q := &memory.all[0]
	clock := time.Unix(0, 0)
	waiting := 0
	empty := func() bool { return waiting == 0 }
	start := func() *Progress {
		p := newProgress(memory, 0)
		p.now = func() time.Time { return clock }
		return p
	}
	p := start()
	send := func(n int) { q.sent += uint64(n); waiting += n }
	read := func(n int) {
		for range n {
			waiting--
			p.Finished(1, empty)
		}
	}
	want := func(behind uint64) {
		t.Helper()
		if got := q.sent - q.finished; got != behind {
			t.Fatalf("%v finished, want all but %d", p, behind)
		}
	}

	// samples lets the queue be seen empty so often, over so long.
	samples := func(n int, over time.Duration) {
		t.Helper()
		for range n {
			clock = clock.Add(over / time.Duration(n))
			send(1)
			read(1)
		}
	}

	send(5)
	read(4)
	want(5) // there may be others without a number behind them
	read(1)
	want(0)
	send(3)
	want(3)
	read(2)
	want(1)
	read(1)
	want(0)

	// Packets without a number, from before the programs were there, and numbers
	// whose packets are on their way into the queue.
	p = start()
	waiting += 3
	read(3)
	q.sent += 2
	send(1)
	read(1)
	want(3)
	samples(gapSamples-2, gapAge)
	want(3 + gapSamples - 2)
	waiting += 2
	read(2)
	samples(1, gapAge)
	want(0)

	// The same, seen by another Progress than the one that read the others.
	send(5)
	p = start()
	q.sent += 19
	read(5)
	want(24)
	clock = clock.Add(gapAge)
	waiting += 19
	read(19)
	want(0)

	// A full queue.
	send(10)
	waiting -= 4
	read(6)
	want(4)
	samples(gapSamples-1, gapAge)
	want(4)
	samples(2, gapAge)
	want(0)
	send(2)
	read(1)
	want(1)
	read(1)
	want(0)

	// A processor that stands still for long with a packet that has a number.
	q.sent++
	samples(1, time.Hour)
	want(1)
	samples(2, time.Hour)
	want(1)
	waiting++
	read(1)
	want(0)

	// A queue that has had something in it for long, and is empty when the next
	// packet has its number and is on its way.
	send(1)
	for range 10 * gapSamples {
		send(1)
		clock = clock.Add(gapAge)
		read(1)
		want(1)
	}
	q.sent++
	read(1)
	want(1)
	waiting++
	read(1)
	want(0)

	// A queue that never gets empty and drops half of what it should take.
	for range 4 * queueBound {
		send(2)
		waiting--
		if waiting > 10 {
			read(1)
		}
		waiting = max(waiting, 1)
	}
	if behind := q.sent - q.finished; behind > 3*queueBound {
		t.Errorf("%d packets behind in a queue that never holds more than %d", behind, queueBound)
	}

	// The same where it is not empty at the start either.
	finished := q.finished
	p = start()
	waiting = 100
	for range queueBound - 1 {
		send(1)
		read(1)
		if q.finished != finished {
			t.Fatalf("%v: some of %d may wait still", p, waiting)
		}
	}
	for range queueBound + 1 {
		send(1)
		read(1)
	}
	if behind := q.sent - q.finished; behind < 100 || behind > 3*queueBound {
		t.Errorf("%d packets behind in a queue that holds 100", behind)
	}
}
