package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"tnat64d/internal/needs"
	"tnat64d/tun"
)

// loop is a network namespace in which an IPv4 program and an IPv6 server meet
// through an engine, with nothing but routes:
//
//	192.0.0.1 -> 198.51.100.1 --IPv4--> clat0 --engine--> clat0 --IPv6--> 64:ff9b::198.51.100.1, an address of lo
//
// and back by the route to the CLAT's IPv6 address, which is behind clat0 too.
type loop struct {
	engine *Engine
	net    *netlink.Handle
	clat0  netlink.Link
	result chan error // of Run
	stop   context.CancelFunc
}

func newLoop(t *testing.T, queues int) *loop {
	t.Helper()
	needs.Root(t, "makes a network namespace and a TUN interface")
	// The thread is never unlocked: the runtime throws it away after the test,
	// and the namespace goes with it.
	runtime.LockOSThread()
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	h, err := netlink.NewHandle()
	must(t, err)
	t.Cleanup(h.Close)
	d, err := tun.Open("clat0", queues)
	must(t, err)

	lo, err := h.LinkByName("lo")
	must(t, err)
	must(t, h.LinkSetUp(lo))
	must(t, h.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(host6, 128)), Flags: unix.IFA_F_NODAD}))
	clat0, err := h.LinkByName("clat0")
	must(t, err)
	must(t, h.AddrAdd(clat0, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(clat4, 32))}))
	must(t, h.LinkSetUp(clat0))
	must(t, h.RouteAdd(&netlink.Route{LinkIndex: d.Index, Dst: ipNet(netip.PrefixFrom(host4, 24).Masked()), MTU: 1480, Src: clat4.AsSlice()}))
	must(t, h.RouteAdd(&netlink.Route{LinkIndex: d.Index, Dst: ipNet(netip.PrefixFrom(clat6, 128))}))
	// The kernel makes an IPv6 address usable in a work queue, even without DAD.
	for range 200 {
		routes, err := h.RouteGet(host6.AsSlice())
		if err == nil && routes[0].Type == unix.RTN_LOCAL {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}

	o := Options{Translator: newTranslator(t, clat6), ICMPErrorsPerSecond: 100, UDPSegments: d.Offloads.USO}
	for _, q := range d.Queues {
		o.Queues = append(o.Queues, q)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &loop{engine: New(o), net: h, clat0: clat0, result: make(chan error, 1), stop: cancel}
	go func() { l.result <- l.engine.Run(ctx) }()
	t.Cleanup(cancel)
	return l
}

// end stops the engine and shows that the interface went with it.
func (l *loop) end(t *testing.T) {
	t.Helper()
	l.stop()
	if err := <-l.result; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := l.net.LinkByName("clat0"); err == nil {
		t.Error("clat0 is still there")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Sockets are made by the test's own goroutine, which is in the namespace.

func TestRealPing(t *testing.T) {
	l := newLoop(t, 1)
	c, err := net.ListenPacket("ip4:icmp", clat4.String())
	must(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	for _, size := range []int{56, 1400} {
		request := header.ICMPv4(make([]byte, header.ICMPv4MinimumSize+size))
		request.SetType(header.ICMPv4Echo)
		request.SetIdent(4711)
		request.SetSequence(uint16(size))
		copy(request.Payload(), bytes.Repeat([]byte("ping"), size/4))
		request.SetChecksum(header.ICMPv4Checksum(request, 0))
		if _, err := c.WriteTo(request, &net.IPAddr{IP: host4.AsSlice()}); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<16)
		n, from, err := c.ReadFrom(buf)
		must(t, err)
		reply := header.ICMPv4(buf[:n])
		if from.String() != host4.String() || reply.Type() != header.ICMPv4EchoReply || reply.Sequence() != uint16(size) || !bytes.Equal(reply.Payload(), request.Payload()) {
			t.Errorf("%d bytes: answer from %v: % x", size, from, buf[:min(n, 32)])
		}
	}
	l.end(t)
}

// A program reaches a closed port and hears of it by an ICMP error whose
// quoted packet was translated well enough for the kernel to find the socket.
func TestRealPortUnreachable(t *testing.T) {
	l := newLoop(t, 1)
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: host4.AsSlice(), Port: 9})
	must(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	_, err = c.Write([]byte("anybody?"))
	must(t, err)
	if _, err := c.Read(make([]byte, 10)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("read: %v, want connection refused", err)
	}
	l.end(t)
}

// Many UDP flows over several queues: each gets every datagram back, in order.
func TestRealFlowsInOrder(t *testing.T) {
	const queues, flows, datagrams, window = 4, 16, 400, 8
	l := newLoop(t, queues)
	server, err := net.ListenUDP("udp6", &net.UDPAddr{IP: host6.AsSlice()})
	must(t, err)
	defer server.Close()
	must(t, server.SetReadBuffer(1<<20))
	go func() { // echo
		buf := make([]byte, 2000)
		for {
			n, from, err := server.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			server.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	var clients []*net.UDPConn
	for range flows {
		c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: host4.AsSlice(), Port: server.LocalAddr().(*net.UDPAddr).Port})
		must(t, err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(60 * time.Second))
		clients = append(clients, c)
	}
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			msg, answer := make([]byte, 100), make([]byte, 2000)
			received := uint32(0)
			receive := func() bool {
				n, err := c.Read(answer)
				if err != nil {
					t.Errorf("flow %d, datagram %d: %v", i, received, err)
					return false
				}
				if seq := binary.BigEndian.Uint32(answer); n != len(msg) || seq != received {
					t.Errorf("flow %d: datagram %d of %d bytes came where %d was due", i, seq, n, received)
					return false
				}
				received++
				return true
			}
			for seq := range uint32(datagrams) {
				binary.BigEndian.PutUint32(msg, seq)
				if _, err := c.Write(msg); err != nil {
					t.Errorf("flow %d: %v", i, err)
					return
				}
				if seq >= window && !receive() {
					return
				}
			}
			for received < datagrams {
				if !receive() {
					return
				}
			}
		})
	}
	wg.Wait()
	s := l.engine.Stats()
	if s.To6[UDP].Packets != flows*datagrams || s.To4[UDP].Packets != flows*datagrams || s.WriteErrors != 0 || s.ReadErrors != 0 {
		t.Errorf("stats %+v", s)
	}
	used := 0
	for _, w := range l.engine.workers {
		if w.to6[UDP].packets.Load() > 0 {
			used++
		}
		// What a queue has read in one direction it reads in the other.
		if out, in := w.to6[UDP].packets.Load(), w.to4[UDP].packets.Load(); out != in {
			t.Errorf("a queue has carried %d packets out and %d in: flows change queues", out, in)
		}
	}
	if used < 2 {
		t.Errorf("%d flows used %d of %d queues", flows, used, queues)
	}
	l.end(t)
}

// Bursts of datagrams of mixed sizes come back whole, in order, and all of them.
func TestRealBursts(t *testing.T) {
	const flows, burst = 8, 32
	bursts := 160_000 / flows / burst
	if testing.Short() {
		bursts /= 10
	}
	l := newLoop(t, 2)
	server, err := net.ListenUDP("udp6", &net.UDPAddr{IP: host6.AsSlice()})
	must(t, err)
	defer server.Close()
	// All bursts at once: more than net.core.rmem_max allows by default.
	raw, err := server.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	}))
	must(t, err)
	go func() { // echo
		buf := make([]byte, 2000)
		for {
			n, from, err := server.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			server.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	var clients []*net.UDPConn
	for range flows {
		c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: host4.AsSlice(), Port: server.LocalAddr().(*net.UDPAddr).Port})
		must(t, err)
		defer c.Close()
		must(t, c.SetReadBuffer(1<<20))
		clients = append(clients, c)
	}
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			all := make([]byte, 4096)
			for j := range all {
				all[j] = byte(rnd.Uint32())
			}
			sizes := []int{0, 1, 64, 64, 64, 512, 1200, 1400}
			var sent [burst][]byte
			back := make([]byte, 2000)
			for b := range bursts {
				size := sizes[rnd.IntN(len(sizes))]
				for j := range sent {
					if rnd.IntN(8) == 0 {
						size = rnd.IntN(1400)
					}
					from := rnd.IntN(len(all) - size)
					sent[j] = all[from : from+size]
					if _, err := c.Write(sent[j]); err != nil {
						t.Errorf("flow %d: %v", i, err)
						return
					}
				}
				c.SetReadDeadline(time.Now().Add(60 * time.Second))
				for j := range sent {
					n, err := c.Read(back)
					if err != nil || !bytes.Equal(back[:n], sent[j]) {
						t.Errorf("flow %d, burst %d, datagram %d: %d bytes came back of %d, or others: %v", i, b, j, n, len(sent[j]), err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	l.end(t)
	if s := l.engine.Stats(); s.WriteErrors != 0 || s.ReadErrors != 0 {
		t.Errorf("%d write errors and %d read errors", s.WriteErrors, s.ReadErrors)
	}
}

// A datagram far larger than the link, in IPv4 fragments one way and IPv6
// fragments the other.
func TestRealFragments(t *testing.T) {
	l := newLoop(t, 2)
	server, err := net.ListenUDP("udp6", &net.UDPAddr{IP: host6.AsSlice()})
	must(t, err)
	defer server.Close()
	server.SetDeadline(time.Now().Add(60 * time.Second))
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: host4.AsSlice(), Port: server.LocalAddr().(*net.UDPAddr).Port})
	must(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	// Without this Linux sets DF on fragments too while it discovers the path.
	rc, err := c.SyscallConn()
	must(t, err)
	must(t, rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
	}))
	must(t, err)

	sent, buf := bytes.Repeat([]byte("8 KiB of this. "), 546), make([]byte, 1<<16)
	_, err = c.Write(sent)
	must(t, err)
	n, from, err := server.ReadFromUDPAddrPort(buf)
	must(t, err)
	if !bytes.Equal(buf[:n], sent) {
		t.Errorf("%d bytes arrived, want %d", n, len(sent))
	}
	_, err = server.WriteToUDPAddrPort(buf[:n], from)
	must(t, err)
	if n, err = c.Read(buf); err != nil || !bytes.Equal(buf[:n], sent) {
		t.Errorf("%d bytes came back (%v), want %d", n, err, len(sent))
	}
	l.end(t)
}

// Bulk TCP in both directions arrives intact, and travels as super-packets.
func TestRealTCP(t *testing.T) {
	const size = 48 << 20
	for _, queues := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d queues", queues), func(t *testing.T) {
			l := newLoop(t, queues)
			server, err := net.ListenTCP("tcp6", &net.TCPAddr{IP: host6.AsSlice()})
			must(t, err)
			defer server.Close()
			type arrival struct {
				sum [sha256.Size]byte
				err error
			}
			arrivals := make(chan arrival, 1)
			go func() { // takes size bytes, then sends size bytes
				c, err := server.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				sum, err := digest(io.LimitReader(c, size))
				arrivals <- arrival{sum, err}
				io.Copy(c, stream(size))
			}()
			c, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: host4.AsSlice(), Port: server.Addr().(*net.TCPAddr).Port})
			must(t, err)
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Minute)) // an emulated machine that is busy takes one

			want, err := digest(stream(size))
			must(t, err)
			if _, err := io.Copy(c, stream(size)); err != nil {
				t.Fatal("upload: ", err)
			}
			if got := <-arrivals; got.err != nil || got.sum != want {
				t.Fatalf("the upload arrived incomplete (%v) or damaged", got.err)
			}
			up := l.engine.Stats()
			if got, err := digest(c); err != nil || got != want {
				t.Fatalf("the download arrived incomplete (%v) or damaged", err)
			}
			s := l.engine.Stats()
			// How large super-packets become depends on how busy the machine is; no
			// packet of a single segment is larger than 1,500 bytes.
			if mean := up.To6[TCP].Bytes / up.To6[TCP].Packets; mean <= 1500 {
				t.Errorf("upload: %d bytes per packet on average: no super-packets", mean)
			}
			if mean := (s.To4[TCP].Bytes - up.To4[TCP].Bytes) / (s.To4[TCP].Packets - up.To4[TCP].Packets); mean <= 1500 {
				t.Errorf("download: %d bytes per packet on average: no super-packets", mean)
			}
			// The interface counts what the engine has written: no super-packet was
			// split.
			clat0, err := l.net.LinkByIndex(l.clat0.Attrs().Index)
			must(t, err)
			l.end(t) // packets follow until then: the end of the connection
			s = l.engine.Stats()
			written, translated := clat0.Attrs().Statistics.RxPackets, s.To6[TCP].Packets+s.To4[TCP].Packets
			if written > translated {
				t.Errorf("%d packets were written for %d that were translated", written, translated)
			}
		})
	}
}

// stream is size bytes that do not repeat within a packet.
func stream(size int64) io.Reader {
	return io.LimitReader(new(counterStream), size)
}

type counterStream struct{ n uint64 }

func (s *counterStream) Read(p []byte) (int, error) {
	n := len(p) &^ 7
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], s.n*0x9e3779b97f4a7c15)
		s.n++
	}
	return n, nil
}

func digest(r io.Reader) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	_, err = io.Copy(h, r)
	h.Sum(sum[:0])
	return sum, err
}

// Somebody deletes the interface: the engine says so and ends.
func TestRealInterfaceRemoved(t *testing.T) {
	l := newLoop(t, 4)
	must(t, l.net.LinkDel(l.clat0))
	err := <-l.result
	if !errors.Is(err, os.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	if want := `TUN interface "clat0" was removed: file already closed`; err == nil || err.Error() != want {
		t.Errorf("Run: %q, want %q", err, want)
	}
}

// While the interface is down what the engine writes is lost; afterwards it
// goes on as before.
func TestRealInterfaceDownAndUp(t *testing.T) {
	l := newLoop(t, 2)
	for range 3 {
		must(t, l.net.LinkSetDown(l.clat0))
		must(t, l.net.LinkSetUp(l.clat0))
	}
	must(t, l.net.RouteReplace(&netlink.Route{LinkIndex: l.clat0.Attrs().Index, Dst: ipNet(netip.PrefixFrom(host4, 24).Masked()), MTU: 1480, Src: clat4.AsSlice()}))
	must(t, l.net.RouteReplace(&netlink.Route{LinkIndex: l.clat0.Attrs().Index, Dst: ipNet(netip.PrefixFrom(clat6, 128))}))
	c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: host4.AsSlice(), Port: 9})
	must(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	_, err = c.Write([]byte("anybody?"))
	must(t, err)
	if _, err := c.Read(make([]byte, 10)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("read: %v, want connection refused", err)
	}
	l.end(t)
}
