package shim

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// unfinishedSwap is a swap of a socket with several descriptors. It is left when
// a signal has interrupted it. It names sockets by cookie and keeps none open.
type unfinishedSwap struct {
	tgid   int       // the process
	number int       // where it has the new socket
	fresh  uint64    // cookie of that
	old    uint64    // cookie of the old one
	inode  uint64    // of the old one
	at     time.Time // when it began

	mu sync.Mutex // held by who replaces descriptors
}

// unfinishedSwaps are those that have begun.
type unfinishedSwaps struct {
	n   atomic.Int32 // len(all), for a look without lock
	mu  sync.Mutex
	all []*unfinishedSwap
}

// maxUnfinished bounds them; the oldest is given up.
const maxUnfinished = 64

func (u *unfinishedSwaps) add(s *unfinishedSwap) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.all) >= maxUnfinished {
		u.all = slices.Delete(u.all, 0, 1)
	}
	u.all = append(u.all, s)
	u.n.Store(int32(len(u.all)))
}

func (u *unfinishedSwaps) remove(s *unfinishedSwap) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all = slices.DeleteFunc(u.all, func(o *unfinishedSwap) bool { return o == s })
	u.n.Store(int32(len(u.all)))
}

// of returns those of a process.
func (u *unfinishedSwaps) of(tgid int) (own []*unfinishedSwap) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.all {
		if s.tgid == tgid {
			own = append(own, s)
		}
	}
	return own
}

// finishSwaps completes what an earlier call of the process has left undone, with
// the permission of the call t. That one is usually the interrupted call itself,
// which the kernel has restarted.
func finishSwaps(t *trapped) {
	if t.unfinished.n.Load() == 0 {
		return
	}
	p, err := t.processes.of(t.tid)
	if err != nil {
		return
	}
	for _, s := range t.unfinished.of(p.group.tgid) {
		if finishSwap(t, p, s) {
			t.unfinished.remove(s)
		}
	}
}

// finishSwap reports whether nothing is left to do.
func finishSwap(t *trapped, p *process, s *unfinishedSwap) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh, ok := socketAt(t, s.number, s.fresh)
	if !ok {
		// It has yet to come, or the program has closed it meanwhile.
		return time.Since(s.at) > restartWithin
	}
	defer unix.Close(fresh)
	for _, n := range socketNumbers(t.tid, s.inode) {
		old, ok := socketAt(t, n, s.old)
		if !ok {
			continue
		}
		err := replaceAt(t, p, n, old, fresh)
		unix.Close(old)
		if err != nil {
			return false // interrupted once more
		}
	}
	return true
}

// socketAt returns a duplicate of the program's descriptor if it is the socket
// with this cookie.
func socketAt(t *trapped, number int, cookie uint64) (fd int, ok bool) {
	fd, _, err := t.processes.descriptor(t.tid, number)
	if err != nil {
		return -1, false
	}
	if c, err := cookieOf(fd); err != nil || c != cookie {
		unix.Close(fd)
		return -1, false
	}
	return fd, true
}
