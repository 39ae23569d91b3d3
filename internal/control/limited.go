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
// closes others at once. Those who are not root get a part of them, each user
// a part of that, so that no member of the group keeps out root.
type limited struct {
	net.Listener
	slots    slots
	others   slots // of slots; each but root's connections takes one of these, too
	perUser  int
	isRoot   func(Peer) bool
	complain *complaints

	mu    sync.Mutex
	users map[uint32]int // connections of each user that has some and is not root
}

// take admits a connection of p.
func (l *limited) take(p Peer) bool {
	if l.isRoot(p) {
		return l.slots.take()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users[p.UID] >= l.perUser || !l.others.take() {
		return false
	}
	if !l.slots.take() {
		l.others.free()
		return false
	}
	if l.users == nil {
		l.users = map[uint32]int{}
	}
	l.users[p.UID]++
	return true
}

// free gives back what take has taken.
func (l *limited) free(p Peer) {
	l.slots.free()
	if l.isRoot(p) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.others.free()
	if l.users[p.UID]--; l.users[p.UID] == 0 {
		delete(l.users, p.UID)
	}
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, err := peerOf(c)
		if err != nil {
			l.complain.say("cannot identify a client of the control socket; it gets the rights of an unknown user", "reason", err)
		}
		if l.take(peer) {
			return &conn{Conn: c, listener: l, peer: peer}, nil
		}
		c.Close()
		l.complain.say("too many connections to the control socket at the same time", "uid", peer.UID)
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
		c.listener.free(c.peer)
		if c.spoke.Load() && !c.understood.Load() {
			c.listener.complain.say("a client of the control socket sent an invalid request")
		}
	})
	return c.Conn.Close()
}
