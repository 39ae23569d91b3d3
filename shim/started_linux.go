package shim

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// started is a connection on a fresh socket that the program is to get in the
// place of its own.
type started struct {
	fd     int
	cookie uint64         // of fd
	local  netip.Addr     // to which the program's was bound; invalid: to none
	peer   netip.AddrPort // as the program named it
	errno  unix.Errno     // 0 or EINPROGRESS
	sent   int            // bytes, with MSG_FASTOPEN
}

// freshStarted makes the socket of one, which has yet to connect.
func freshStarted(t *trapped, old int, k kind) (c started, err error) {
	if c.fd, c.local, err = freshSocket(t, old, k); err != nil {
		return c, err
	}
	if c.cookie, err = cookieOf(c.fd); err != nil {
		unix.Close(c.fd)
	}
	return c, err
}

// startedConnects are those that a program could not take as a signal ended its
// call, by the cookie of the old socket. The kernel restarts the call, and a
// second connection would need the port of the first.
type startedConnects struct {
	mu sync.Mutex
	by map[uint64]started
}

// maxStarted bounds them; one more is closed at once.
const maxStarted = 64

// put keeps a connection for restartWithin. Its socket is the table's then.
func (s *startedConnects) put(old uint64, c started) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.by[old]; ok || len(s.by) >= maxStarted {
		unix.Close(c.fd)
		return
	}
	if s.by == nil {
		s.by = map[uint64]started{}
	}
	s.by[old] = c
	time.AfterFunc(restartWithin, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.by[old].cookie == c.cookie {
			delete(s.by, old)
			unix.Close(c.fd)
		}
	})
}

// take returns the connection to peer that was kept. The caller closes it.
func (s *startedConnects) take(old uint64, peer netip.AddrPort) (c started, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok = s.by[old]; !ok || c.peer != peer {
		return started{}, false
	}
	delete(s.by, old)
	return c, true
}
