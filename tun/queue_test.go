package tun

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// headroom is more than Read needs, as a translator would have it.
	headroom  = 64
	bufferLen = headroom + 1<<16
)

// behind is a host that would be reached through the TUN.
var behind = netip.MustParseAddr("192.0.2.99")

// dial opens a UDP socket towards the far side of the TUN.
func dial(t *testing.T, port uint16) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(behind, port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// udp checks that p is one IPv4 UDP packet and returns its source port and payload.
func udp(t *testing.T, p []byte) (port uint16, payload []byte) {
	t.Helper()
	if len(p) < 28 || p[0] != 0x45 || p[9] != unix.IPPROTO_UDP {
		t.Fatalf("not a plain IPv4 UDP packet: % x", p[:min(len(p), 28)])
	}
	return binary.BigEndian.Uint16(p[20:]), p[28:]
}

func TestReadPlainPacket(t *testing.T) {
	h := enterNetns(t)
	d := openUp(t, h, 1)
	c := dial(t, 7)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, bufferLen)
	n, vh, err := d.Queues[0].Read(buf, headroom)
	if err != nil {
		t.Fatal(err)
	}
	port, payload := udp(t, buf[headroom:headroom+n])
	if port != c.LocalAddr().(*net.UDPAddr).AddrPort().Port() || string(payload) != "hello" {
		t.Errorf("read port %d, payload %q", port, payload)
	}
	// TUN_F_CSUM was granted: the kernel leaves the UDP checksum to us.
	want := VnetHeader{Flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, CsumStart: 20, CsumOffset: 6}
	if vh != want {
		t.Errorf("vnet header %+v, want %+v", vh, want)
	}
	if got := DecodeVnetHeader(buf[headroom-VnetHeaderLen:]); got != vh {
		t.Errorf("in the buffer %+v, returned %+v", got, vh)
	}
}

// A UDP_SEGMENT batch passes unsplit in both directions, if Offloads says so,
// and split otherwise.
func TestUDPSuperPacket(t *testing.T) {
	const segment, segments = 1000, 40
	h := enterNetns(t)
	d := openUp(t, h, 1)
	q := d.Queues[0]
	c := dial(t, 7)
	if err := setOption(c, unix.SOL_UDP, unix.UDP_SEGMENT, segment); err != nil {
		t.Fatal(err)
	}
	if err := setOption(c, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
		t.Fatal(err)
	}
	sent := make([]byte, segment*segments)
	for i := range sent {
		sent[i] = byte(i / segment)
	}
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, bufferLen)
	n, vh, err := q.Read(buf, headroom)
	if err != nil {
		t.Fatal(err)
	}
	if !d.Offloads.USO {
		if n != 28+segment || vh.GSOType != unix.VIRTIO_NET_HDR_GSO_NONE {
			t.Fatalf("without USO: %d bytes, %+v", n, vh)
		}
		t.Skip("the kernel has no USO for TUN (Linux 6.2): the batch came split, as Offloads says")
	}
	if n != 28+segment*segments || vh.GSOType != unix.VIRTIO_NET_HDR_GSO_UDP_L4 || vh.GSOSize != segment {
		t.Fatalf("read %d bytes with %+v, want %d bytes with GSO type %d, size %d",
			n, vh, 28+segment*segments, unix.VIRTIO_NET_HDR_GSO_UDP_L4, segment)
	}

	// Sent back with the addresses and ports exchanged, the pseudo-header sum
	// stays the same.
	turnRound(buf[headroom : headroom+n])
	if err := q.Write(buf[:headroom+n], headroom, vh); err != nil {
		t.Fatal(err)
	}
	got, oob := make([]byte, 1<<16), make([]byte, 64)
	c.SetReadDeadline(time.Now().Add(60 * time.Second))
	n, oobn, _, _, err := c.ReadMsgUDP(got, oob)
	if err != nil {
		t.Fatal(err)
	}
	if string(got[:n]) != string(sent) {
		t.Errorf("%d bytes came back, want the %d that were sent in one piece", n, len(sent))
	}
	if oobn == 0 {
		t.Error("the batch came back without a segment size")
	}
}

// turnRound exchanges addresses and ports of an IPv4 UDP packet. No checksum
// changes by that.
func turnRound(p []byte) {
	var tmp [4]byte
	copy(tmp[:], p[12:16])
	copy(p[12:16], p[16:20])
	copy(p[16:20], tmp[:])
	copy(tmp[:2], p[20:22])
	copy(p[20:22], p[22:24])
	copy(p[22:24], tmp[:2])
}

func setOption(c *net.UDPConn, level, option, value int) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	if err := rc.Control(func(fd uintptr) { errno = unix.SetsockoptInt(int(fd), level, option, value) }); err != nil {
		return err
	}
	return errno
}

func TestReadAndWriteDoNotAllocate(t *testing.T) {
	h := enterNetns(t)
	q := openUp(t, h, 1).Queues[0]
	c := dial(t, 7)
	payload, buf := []byte("hello"), make([]byte, bufferLen)
	allocs := testing.AllocsPerRun(200, func() {
		c.Write(payload)
		n, vh, err := q.Read(buf, headroom)
		if err != nil {
			t.Fatal(err)
		}
		turnRound(buf[headroom : headroom+n])
		if err := q.Write(buf[:headroom+n], headroom, vh); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a Read and a Write", allocs)
	}
}

// idle is called when there is nothing to read, and not as long as there is.
func TestReadIdle(t *testing.T) {
	h := enterNetns(t)
	q := openUp(t, h, 1).Queues[0]
	c := dial(t, 7)
	buf := make([]byte, bufferLen)
	for _, payload := range []string{"one", "two"} {
		if _, err := c.Write([]byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(idle func(), want string) {
		t.Helper()
		n, _, err := q.ReadIdle(buf, headroom, idle)
		if err != nil {
			t.Fatal(err)
		}
		if _, payload := udp(t, buf[headroom:headroom+n]); string(payload) != want {
			t.Errorf("read %q, want %q", payload, want)
		}
	}
	never := func() { t.Error("idle was called while packets were waiting") }
	read(never, "one")
	read(never, "two")
	calls := 0
	read(func() { calls++; c.Write([]byte("three")) }, "three")
	if calls != 1 {
		t.Errorf("idle was called %d times before waiting, want once", calls)
	}
}

// readInBackground reads until an error comes. It is parked when it returns.
func readInBackground(q *Queue) <-chan error {
	result := make(chan error, 1)
	go func() {
		buf := make([]byte, bufferLen)
		for {
			if _, _, err := q.Read(buf, headroom); err != nil {
				result <- err
				return
			}
		}
	}()
	time.Sleep(50 * time.Millisecond)
	return result
}

func wantClosed(t *testing.T, result <-chan error) {
	t.Helper()
	select {
	case err := <-result:
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("the reader got %q, want one that wraps os.ErrClosed", err)
		}
		t.Log(err)
	case <-time.After(60 * time.Second):
		t.Fatal("the reader is still waiting")
	}
}

func TestCloseUnparksReader(t *testing.T) {
	h := enterNetns(t)
	q := openUp(t, h, 1).Queues[0]
	result := readInBackground(q)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, result)
	if err := q.Write(make([]byte, 100), headroom, VnetHeader{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if _, _, err := q.Read(make([]byte, 100), headroom); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

// Somebody deletes the interface: a reader that waits, and one that comes
// later, get an error that says so. The kernel and the Go poller have a
// different one for each.
func TestInterfaceRemoved(t *testing.T) {
	h := enterNetns(t)
	d := openUp(t, h, 2)
	waiting := readInBackground(d.Queues[0])
	link, err := h.LinkByName(d.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, waiting)
	for i, q := range d.Queues {
		_, _, err := q.Read(make([]byte, bufferLen), headroom)
		expectError(t, err, os.ErrClosed, `TUN interface "clat0" was removed: file already closed`)
		err = q.Write(make([]byte, 100), headroom, VnetHeader{})
		expectError(t, err, os.ErrClosed, `TUN interface "clat0" was removed: file already closed`)
		if err := q.Close(); err != nil {
			t.Errorf("close queue %d: %v", i, err)
		}
	}
}

// A Write that the kernel refuses costs that packet only.
func TestWriteErrors(t *testing.T) {
	h := enterNetns(t)
	d := openUp(t, h, 1)
	q, c := d.Queues[0], dial(t, 7)
	buf := make([]byte, bufferLen)
	c.Write([]byte("hello"))
	n, vh, err := q.Read(buf, headroom)
	if err != nil {
		t.Fatal(err)
	}
	turnRound(buf[headroom : headroom+n])

	for _, tt := range []struct {
		name string
		p    []byte
		h    VnetHeader
	}{
		{"checksum beyond the end", buf[:headroom+n], VnetHeader{Flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, CsumStart: 5000, CsumOffset: 6}},
		{"unknown GSO type", buf[:headroom+n], VnetHeader{GSOType: 0x42, GSOSize: 100}},
		{"not IP", append(make([]byte, headroom), 0xf0, 1, 2, 3), VnetHeader{}},
		{"empty", buf[:headroom], VnetHeader{}},
	} {
		if err := q.Write(tt.p, headroom, tt.h); err == nil || errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v, want an error about the packet", tt.name, err)
		}
	}
	link, err := h.LinkByName(d.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetDown(link); err != nil {
		t.Fatal(err)
	}
	if err := q.Write(buf[:headroom+n], headroom, vh); !errors.Is(err, syscall.EIO) {
		t.Errorf("while the interface is down: %v, want EIO", err)
	}
	if err := h.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	if err := q.Write(buf[:headroom+n], headroom, vh); err != nil {
		t.Errorf("after all that: %v", err)
	}
	c.SetReadDeadline(time.Now().Add(60 * time.Second))
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "hello" {
		t.Errorf("received %q, %v", buf[:n], err)
	}
}

// Every flow stays on one queue, in order, while each queue has a reader.
func TestFlowStaysOnItsQueue(t *testing.T) {
	const queues, flows, packets = 4, 32, 50
	h := enterNetns(t)
	d := openUp(t, h, queues)
	var socks []*net.UDPConn
	flowOf := make(map[uint16]int)
	for i := range flows {
		c := dial(t, 7)
		socks = append(socks, c)
		flowOf[c.LocalAddr().(*net.UDPAddr).AddrPort().Port()] = i
	}
	// The ring of a queue holds tx_queue_len packets; nothing may be lost here.
	link, err := h.LinkByName(d.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetTxQLen(link, flows*packets); err != nil {
		t.Fatal(err)
	}

	type arrival struct{ flow, seq, queue int }
	arrivals := make(chan arrival, flows*packets)
	var readers sync.WaitGroup
	for i, q := range d.Queues {
		readers.Go(func() {
			buf := make([]byte, bufferLen)
			for {
				n, _, err := q.Read(buf, headroom)
				if err != nil {
					return
				}
				p := buf[headroom : headroom+n]
				arrivals <- arrival{flowOf[binary.BigEndian.Uint16(p[20:])], int(binary.BigEndian.Uint32(p[28:])), i}
			}
		})
	}
	for seq := range packets {
		for _, c := range socks {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], uint32(seq))
			if _, err := c.Write(b[:]); err != nil {
				t.Fatal(err)
			}
		}
	}
	var next, queueOf [flows]int
	used := make(map[int]bool)
	timeout := time.After(60 * time.Second)
	for range flows * packets {
		select {
		case a := <-arrivals:
			if a.seq == 0 {
				queueOf[a.flow] = a.queue
				used[a.queue] = true
			}
			if a.queue != queueOf[a.flow] {
				t.Fatalf("flow %d came on queue %d and on %d", a.flow, queueOf[a.flow], a.queue)
			}
			if a.seq != next[a.flow] {
				t.Fatalf("flow %d: packet %d came where %d was due", a.flow, a.seq, next[a.flow])
			}
			next[a.flow]++
		case <-timeout:
			t.Fatal("not all packets came")
		}
	}
	if len(used) < 2 {
		t.Errorf("%d flows all came on one of %d queues", flows, queues)
	}
	d.Close()
	readers.Wait()
}
