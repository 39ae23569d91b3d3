package shim

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// portSet is a set of TCP ports, a bit each.
type portSet [65536 / 64]uint64

func (p *portSet) add(port uint16)           { p[port/64] |= 1 << (port % 64) }
func (p *portSet) contains(port uint16) bool { return p[port/64]&(1<<(port%64)) != 0 }

// intersect removes what is not in q.
func (p *portSet) intersect(q *portSet) {
	for i := range p {
		p[i] &= q[i]
	}
}

// limits are the TCP ports to which processes have restricted themselves (Landlock),
// by a mark that the processes carry and hand down to their children. A process can
// make its mark lower, never higher, and cannot guess another one: a mark that is
// unknown permits nothing.
type limits struct {
	given   atomic.Bool // some process has a mark
	marking sync.Mutex  // held while a process gets another mark

	mu     sync.Mutex
	none   uint64 // the mark of processes without a limit
	lowest uint64 // the last mark that was given
	of     map[uint64]*limit
}

// limit is what a mark stands for.
type limit struct {
	ports  portSet
	parent uint64 // the mark that the process had before
}

// maxLimits bounds the marks; each takes 8 KiB.
const maxLimits = 256

// begin says what mark processes without a limit have.
func (l *limits) begin(none uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.none, l.lowest = none, min(none, 1<<62)
}

// restrict returns the mark for a process that has the mark old and restricts
// itself to ports. ok is false if there is no room.
func (l *limits) restrict(old uint64, ports portSet) (mark uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old != l.none {
		if known := l.of[old]; known != nil {
			ports.intersect(&known.ports)
		} else {
			ports = portSet{}
		}
	}
	for mark, known := range l.of {
		if known.parent == old && known.ports == ports {
			return mark, true
		}
	}
	step := 1 + rand.Uint64N(1<<50)
	if len(l.of) >= maxLimits || l.lowest <= step {
		return 0, false
	}
	l.lowest -= step
	if l.of == nil {
		l.of = map[uint64]*limit{}
	}
	l.of[l.lowest] = &limit{ports, old}
	l.given.Store(true)
	return l.lowest, true
}

// permits reports whether a process with this mark may connect to port.
func (l *limits) permits(mark uint64, port uint16) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if mark == l.none {
		return true
	}
	known := l.of[mark]
	return known != nil && known.ports.contains(port)
}
