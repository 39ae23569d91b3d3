package shim

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// maxReplaced is how many sockets of the program are remembered as replaced.
// Of those that have not been asked about for longest it is forgotten, so that
// their names read as IPv6.
const maxReplaced = 16384

// replaced is what stands behind an AF_INET6 socket that the program takes for
// an IPv4 socket.
type replaced struct {
	peer     netip.AddrPort // as the program named it
	local    netip.Addr     // to which it was bound; invalid: to none
	mapped   bool           // the program's socket was AF_INET6, its names are ::ffff:a.b.c.d
	answered answered       // the last connect that we answered
	datagram bool
	early    bool // not connected yet: see handEarly
}

// answered is an answer to connect(2) that the program may not have got: a
// signal that arrives with it makes the kernel discard the answer and restart
// the call, and the supervisor is not always told (Linux 6.18:
// seccomp_do_user_notification is interrupted, then takes notify_lock).
type answered struct {
	tid       int
	at        time.Time
	connected bool // the answer was that the socket is connected
	lost      bool // the supervisor was told
}

// restartWithin is how soon a call that was interrupted comes again, unless a
// signal handler takes longer. Of a program that has been told that its socket
// is connected, a second connect of the same thread within this time gets the
// same answer. One that has been told EINPROGRESS has a reason to ask again.
const restartWithin = 2 * time.Second

// restarted reports whether a connect of the thread tid repeats the one that a
// answered.
func (a answered) restarted(tid int, now time.Time) bool {
	return a.tid == tid && tid != 0 && (a.lost || a.connected && now.Sub(a.at) < restartWithin)
}

// sockets are the replaced ones, by cookie (SO_COOKIE).
type sockets struct {
	mu    sync.Mutex
	by    map[uint64]*list.Element // of entry
	order list.List                // last used first
	lost  uint64                   // forgotten for want of room
}

type entry struct {
	cookie uint64
	replaced
}

func (s *sockets) set(cookie uint64, r replaced) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[uint64]*list.Element{}
	}
	if e, ok := s.by[cookie]; ok {
		e.Value.(*entry).replaced = r
		s.order.MoveToFront(e)
		return
	}
	if len(s.by) >= maxReplaced {
		last := s.order.Back()
		delete(s.by, last.Value.(*entry).cookie)
		s.order.Remove(last)
		s.lost++
	}
	s.by[cookie] = s.order.PushFront(&entry{cookie, r})
}

func (s *sockets) remove(cookie uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.by[cookie]; ok {
		delete(s.by, cookie)
		s.order.Remove(e)
	}
}

func (s *sockets) get(cookie uint64) (replaced, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.by[cookie]
	if !ok {
		return replaced{}, false
	}
	s.order.MoveToFront(e)
	return e.Value.(*entry).replaced, true
}

// recent is a bounded set of cookies; the oldest are forgotten.
type recent struct {
	mu   sync.Mutex
	has  map[uint64]bool
	ring []uint64
	next int

	forgot bool // some have been forgotten
}

const maxRecent = 4096

// add reports whether the cookie was there already.
func (r *recent) add(cookie uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.has[cookie] {
		return true
	}
	if r.has == nil {
		r.has = map[uint64]bool{}
	}
	if len(r.ring) < maxRecent {
		r.ring = append(r.ring, cookie)
	} else {
		delete(r.has, r.ring[r.next])
		r.ring[r.next], r.forgot = cookie, true
		r.next = (r.next + 1) % maxRecent
	}
	r.has[cookie] = true
	return false
}

// forget makes mayContain true for all cookies: some that belong to the set are not
// in it.
func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgot = true
}

// mayContain reports whether the cookie is in the set, or may have been forgotten.
func (r *recent) mayContain(cookie uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.has[cookie] || r.forgot
}

func (r *recent) contains(cookie uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.has[cookie]
}
