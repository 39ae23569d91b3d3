package siit_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Real transport protocols across the network of netstack_test.go.

const patience = 15 * time.Second // for a whole exchange, on a busy machine

// transfer opens a TCP connection from the host to the server and sends n
// bytes in each direction at the same time.
func (w *world) transfer(n int) {
	w.t.Helper()
	l, err := gonet.ListenTCP(w.server, at(w.server6, 80), ipv6.ProtocolNumber)
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	server := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			server <- err
			return
		}
		server <- exchange(c, 'S', 'H', n)
	}()
	ctx := w.t.Context()
	c, err := gonet.DialContextTCP(ctx, w.host, at(remote4, 80), ipv4.ProtocolNumber)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := exchange(c, 'H', 'S', n); err != nil {
		w.t.Errorf("host: %v", err)
	}
	if err := <-server; err != nil {
		w.t.Errorf("server: %v", err)
	}
}

// stream is what one side sends: no two places look the same.
func stream(mark byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = mark ^ byte(i) ^ byte(i>>8) ^ byte(i>>16)
	}
	return b
}

// exchange sends n bytes on c while it receives as many, and compares them.
func exchange(c net.Conn, own, theirs byte, n int) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(stream(own, n))
		sent <- err
	}()
	got := make([]byte, n)
	if k, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("received %d of %d bytes: %w", k, n, err)
	}
	if !bytes.Equal(got, stream(theirs, n)) {
		return errors.New("received other bytes")
	}
	if err := <-sent; err != nil {
		return fmt.Errorf("send: %w", err)
	}
	// Do not close before the other side has everything.
	if t, ok := c.(*gonet.TCPConn); ok {
		t.CloseWrite()
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("at the end: %v", err)
	}
	return nil
}

const megabytes = 1 << 20

func volume() int {
	if testing.Short() {
		return megabytes
	}
	return 4 * megabytes
}

func TestEndToEndTCP(t *testing.T) {
	start(t, &world{cfg: hostConfig()}).transfer(volume())
}

func TestEndToEndTCPMappings(t *testing.T) {
	t.Run("checksum-neutral", func(t *testing.T) {
		start(t, &world{cfg: neutralConfig()}).transfer(megabytes)
	})
	t.Run("PREF64 of 64 bits", func(t *testing.T) {
		cfg := hostConfig()
		cfg.Mapping.PREF64 = netip.MustParsePrefix("2001:db8:122:344::/64")
		start(t, &world{cfg: cfg}).transfer(megabytes)
	})
}

func TestEndToEndTCPLossAndReordering(t *testing.T) {
	w := start(t, &world{cfg: hostConfig(), loss: 0.01, late: 0.02})
	w.transfer(volume())
	if w.count("lost") == 0 || w.count("late") == 0 {
		t.Error("nothing was lost or late")
	}
}

func TestEndToEndPathMTU(t *testing.T) {
	t.Run("router with a smaller MTU", func(t *testing.T) {
		w := start(t, &world{cfg: hostConfig(), narrow: 1300})
		w.transfer(volume())
		if n := w.count("router: too big"); n == 0 {
			t.Error("nothing was too big for the router")
		}
	})
	t.Run("the same with losses", func(t *testing.T) {
		w := start(t, &world{cfg: hostConfig(), narrow: 1280, loss: 0.01, late: 0.02})
		w.transfer(megabytes)
		if n := w.count("router: too big"); n == 0 {
			t.Error("nothing was too big for the router")
		}
	})
	t.Run("the translator's own", func(t *testing.T) {
		// Both stacks think that their links take more than they do.
		cfg := hostConfig()
		cfg.MTU6, cfg.MTU4 = 1400, 1300
		w := start(t, &world{cfg: cfg, mtu4: 1480})
		w.transfer(megabytes)
		for _, way := range []string{"up: reply too-big", "down: reply too-big"} {
			if w.count(way) == 0 {
				t.Errorf("%s: none", way)
			}
		}
	})
}

func TestEndToEndUDP(t *testing.T) {
	w := start(t, &world{cfg: hostConfig()})
	laddr, raddr := at(w.server6, 53), at(remote4, 53)
	echo, err := gonet.DialUDP(w.server, &laddr, nil, ipv6.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		b := make([]byte, 65535)
		for {
			n, from, err := echo.ReadFrom(b)
			if err != nil {
				return
			}
			if _, err := echo.WriteTo(b[:n], from); err != nil {
				return
			}
		}
	}()
	c, err := gonet.DialUDP(w.host, nil, &raddr, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, 65535)
	// The larger ones are fragmented by the stacks, and again by siit.
	for _, n := range []int{1, 64, 1232, 1233, 1400, 1452, 1453, 4000, 8192, 20000} {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(stream('U', n)); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		k, err := c.Read(got)
		if err != nil || !bytes.Equal(got[:k], stream('U', n)) {
			t.Fatalf("%d bytes: %d came back, or others: %v", n, k, err)
		}
	}
}

// TestEndToEndUnreachable: a closed port is a closed port.
func TestEndToEndUnreachable(t *testing.T) {
	w := start(t, &world{cfg: hostConfig()})
	refused := func(s *stack.Stack, to tcpip.FullAddress, number tcpip.NetworkProtocolNumber) {
		t.Helper()
		c, err := gonet.DialUDP(s, nil, &to, number)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("anybody there?")); err != nil {
			t.Fatal(err)
		}
		// A read that waits is not woken by an error, so ask again and again.
		var netErr net.Error
		for begin := time.Now(); time.Since(begin) < patience; {
			if err := c.SetDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if _, err = c.Read(make([]byte, 100)); !errors.As(err, &netErr) || !netErr.Timeout() {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("read: %v, want connection refused", err)
		}
	}
	refused(w.host, at(remote4, 9), ipv4.ProtocolNumber)
	refused(w.server, at(clat6, 9), ipv6.ProtocolNumber)
	// TCP says so itself.
	if _, err := gonet.DialTCP(w.host, at(remote4, 9), ipv4.ProtocolNumber); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("dial: %v, want connection refused", err)
	}
}

func TestEndToEndPing(t *testing.T) {
	w := start(t, &world{cfg: hostConfig()})
	request4 := header.ICMPv4(make([]byte, header.ICMPv4MinimumSize, 2000))
	request4.SetType(header.ICMPv4Echo)
	request6 := header.ICMPv6(make([]byte, header.ICMPv6MinimumSize, 2000))
	request6.SetType(header.ICMPv6EchoRequest)
	for _, n := range []int{0, 56, 1000, 1400} {
		body := stream('P', n)
		reply, err := ping(w.host, icmp.ProtocolNumber4, ipv4.ProtocolNumber, at(remote4, 0), append(request4, body...))
		if err != nil || header.ICMPv4(reply).Type() != header.ICMPv4EchoReply || !bytes.Equal(reply[8:], body) {
			t.Errorf("host, %d bytes: %x, %v", n, reply[:min(len(reply), 32)], err)
		}
		reply, err = ping(w.server, icmp.ProtocolNumber6, ipv6.ProtocolNumber, at(clat6, 0), append(request6, body...))
		if err != nil || header.ICMPv6(reply).Type() != header.ICMPv6EchoReply || !bytes.Equal(reply[8:], body) {
			t.Errorf("server, %d bytes: %x, %v", n, reply[:min(len(reply), 32)], err)
		}
	}
}

// ping sends an echo request from an ICMP socket and returns the reply.
func ping(s *stack.Stack, transport tcpip.TransportProtocolNumber, network tcpip.NetworkProtocolNumber, to tcpip.FullAddress, request []byte) ([]byte, error) {
	var queue waiter.Queue
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents)
	queue.EventRegister(&entry)
	ep, err := s.NewEndpoint(transport, network, &queue)
	if err != nil {
		return nil, errors.New(err.String())
	}
	defer ep.Close()
	if err := ep.Connect(to); err != nil {
		return nil, errors.New(err.String())
	}
	if _, err := ep.Write(bytes.NewReader(request), tcpip.WriteOptions{}); err != nil {
		return nil, errors.New(err.String())
	}
	select {
	case <-readable:
	case <-time.After(patience):
		return nil, errors.New("no reply")
	}
	var reply bytes.Buffer
	if _, err := ep.Read(&reply, tcpip.ReadOptions{}); err != nil {
		return nil, errors.New(err.String())
	}
	return reply.Bytes(), nil
}
