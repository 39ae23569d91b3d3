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
)

// bind opens the sockets of one address. The address need not be there yet.
func bind(ctx context.Context, addr netip.AddrPort) (net.PacketConn, net.Listener, error) {
	c := net.ListenConfig{Control: freeBind}
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
		return &conn{Conn: c, release: sync.OnceFunc(release)}, nil
	}
}

// conn is a connection that is counted.
type conn struct {
	net.Conn
	release func()
}

// Write writes a message, or closes the connection after tcpWrite: a client that reads
// nothing must not keep its connection and query for ever. The dns package does not
// use [dns.Server.WriteTimeout], and reads on after an error.
func (c *conn) Write(b []byte) (n int, err error) {
	if err = c.SetWriteDeadline(time.Now().Add(tcpWrite)); err == nil {
		n, err = c.Conn.Write(b)
	}
	if err != nil {
		c.Close()
	}
	return n, err
}

// Close closes the connection and stops counting it.
func (c *conn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// sourceOf returns the address of a peer; its zone is that of a link-local one.
func sourceOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
