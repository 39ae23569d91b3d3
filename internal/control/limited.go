package control

import (
	"net"
	"sync"
	"sync/atomic"
)

// slots are a number of things at a time.
type slots chan struct{}

func (s slots) take() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) free() { <-s }

// limited is a listener that has only so many connections at a time, and
// closes others at once.
type limited struct {
	net.Listener
	slots    slots
	complain *complaints
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.slots.take() {
			peer, err := peerOf(c)
			if err != nil {
				l.complain.say("cannot identify a client of the control socket; it gets the rights of an unknown user", "reason", err)
			}
			return &conn{Conn: c, listener: l, peer: peer}, nil
		}
		c.Close()
		l.complain.say("too many connections to the control socket at the same time")
	}
}

// connKey finds the *conn in the context of a request.
type connKey struct{}

// conn gives its slot back when it is closed.
type conn struct {
	net.Conn
	listener *limited
	peer     Peer
	once     sync.Once

	spoke, understood atomic.Bool // a byte came, a request came
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.spoke.Store(true)
	}
	return n, err
}

func (c *conn) Close() error {
	c.once.Do(func() {
		c.listener.slots.free()
		if c.spoke.Load() && !c.understood.Load() {
			c.listener.complain.say("a client of the control socket sent an invalid request")
		}
	})
	return c.Conn.Close()
}
