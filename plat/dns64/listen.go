package dns64

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Of TCP connections (RFC 7766 section 6.2.3).
const (
	tcpIdle    = 10 * time.Second
	tcpRead    = 2 * time.Second // of one message
	tcpWrite   = 5 * time.Second
	tcpQueries = 128 // of one connection
	tcpPending = 16  // of one connection: queries that are being answered
)

// bind opens the sockets of one address. The address need not be there yet.
func bind(ctx context.Context, addr netip.AddrPort) (net.PacketConn, net.Listener, error) {
	c := net.ListenConfig{Control: freeBind}
	addr = byIndex(addr)
	udp, err := c.ListenPacket(ctx, "udp", addr.String())
	if err != nil {
		return nil, nil, err
	}
	tcp, err := c.Listen(ctx, "tcp", addr.String())
	if err != nil {
		udp.Close()
		return nil, nil, err
	}
	return udp, tcp, nil
}

// freeBind lets a socket be bound to an address that is tentative, or comes
// later (ip(7)).
func freeBind(network, _ string, raw syscall.RawConn) (err error) {
	control := raw.Control(func(fd uintptr) {
		if network == "udp6" || network == "tcp6" {
			err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
		}
	})
	if control != nil {
		return control
	}
	return err
}

// udpReader drops what clients may not send, before it costs a goroutine.
type udpReader struct {
	dns.Reader
	server *Server
}

// ReadUDP returns the next message of a client.
func (r udpReader) ReadUDP(conn *net.UDPConn, timeout time.Duration) ([]byte, *dns.SessionUDP, error) {
	for {
		m, session, err := r.Reader.ReadUDP(conn, timeout)
		if err != nil {
			return m, session, err
		}
		if r.server.mayAsk(session.RemoteAddr()) {
			return m, session, nil
		}
		r.server.count(NotAClient)
	}
}

// tcpListener accepts the connections of clients, within limits, and closes
// others at once.
type tcpListener struct {
	net.Listener
	server *Server
}

// Accept returns the next connection of a client.
func (l tcpListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !l.server.mayAsk(c.RemoteAddr()) {
			l.server.count(NotAClient)
			c.Close()
			continue
		}
		release, ok := l.server.admission.connection(sourceOf(c.RemoteAddr()))
		if !ok {
			l.server.count(TooManyConnections)
			c.Close()
			continue
		}
		return &conn{Conn: c, release: sync.OnceFunc(release), slots: make(chan struct{}, tcpPending)}, nil
	}
}

// conn is a connection that is counted. Its queries are answered as the answers are
// ready (RFC 7766 section 6.2.1.1).
type conn struct {
	net.Conn
	release   func()
	slots     chan struct{} // of tcpPending
	answering sync.WaitGroup
	writing   sync.Mutex
}

// peer is the remote address of a connection. The dns package gives a handler
// nothing else by which it finds the connection.
type peer struct {
	*net.TCPAddr
	conn *conn
}

// RemoteAddr returns the client's address, which is a [peer] where the network is TCP.
func (c *conn) RemoteAddr() net.Addr {
	a := c.Conn.RemoteAddr()
	if tcp, ok := a.(*net.TCPAddr); ok {
		return peer{tcp, c}
	}
	return a
}

// handle calls answer in a goroutine. It waits while tcpPending answers are pending.
// Only the goroutine that reads the connection calls it, and Close.
func (c *conn) handle(answer func()) {
	c.slots <- struct{}{}
	c.answering.Go(func() {
		defer func() { <-c.slots }()
		answer()
	})
}

// Write writes a message, or closes the connection if that takes longer than tcpWrite,
// the wait for other messages included: a client that reads nothing must not keep its
// connection and queries for ever. The dns package does not use
// [dns.Server.WriteTimeout], and reads on after an error. Safe for concurrent use.
func (c *conn) Write(b []byte) (n int, err error) {
	deadline := time.Now().Add(tcpWrite)
	c.writing.Lock()
	defer c.writing.Unlock()
	if err = c.SetWriteDeadline(deadline); err == nil {
		n, err = c.Conn.Write(b)
	}
	if err != nil {
		c.Conn.Close() // the reader sees that, and calls Close
	}
	return n, err
}

// Close waits for pending answers, which a client expects that has only closed its own
// direction. Then it closes the connection and stops counting it.
func (c *conn) Close() error {
	defer c.release()
	c.answering.Wait()
	return c.Conn.Close()
}

// sourceOf returns the address of a peer; its zone is that of a link-local one.
func sourceOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	case peer:
		return sourceOf(a.TCPAddr)
	}
	return netip.Addr{}
}
