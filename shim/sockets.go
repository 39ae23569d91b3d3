package shim

import (
	"container/list"
	"net/netip"
	"sync"
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
	unsaid   bool           // the program was interrupted before it got the answer of connect
	datagram bool
	early    bool // not connected yet: see trapped.early
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
		r.ring[r.next] = cookie
		r.next = (r.next + 1) % maxRecent
	}
	r.has[cookie] = true
	return false
}

func (r *recent) contains(cookie uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.has[cookie]
}
