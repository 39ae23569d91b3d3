package shim

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// One thread reads notifications and answers them: several would be woken in
// turn, each with a cold cache. A handler that does not return (the kernel reads
// the program's memory for us, and that may lie on a file system or userfaultfd
// that the program serves itself) keeps this thread. Then another one takes over.
const (
	stuckAfter = 10 * time.Millisecond // a handler is taken for stuck
	maxReaders = 64                    // threads; more are never stuck at once
	quietTicks = 20                    // without a notification, until nobody looks any more
)

// readers are the threads that answer notifications.
type readers struct {
	serve func(*reader)
	wake  chan struct{} // something is being handled

	mu       sync.Mutex
	watching bool
	all      int     // that have not ended
	current  *reader // the one that is to read on; the others end when they can
}

// reader is one of them.
type reader struct {
	of       *readers
	calls    uint64 // begun
	busy     bool   // within a call
	relieved bool   // another one reads now
}

// newReaders starts the first reader with serve, which calls begin and end around
// each call.
func newReaders(serve func(*reader)) *readers {
	rs := &readers{serve: serve, wake: make(chan struct{}, 1)}
	rs.add()
	go rs.watch()
	return rs
}

// add starts a reader that relieves the current one. It is called with the lock
// held, or before there are others.
func (rs *readers) add() {
	r := &reader{of: rs}
	if rs.current != nil {
		rs.current.relieved = true
	}
	rs.current = r
	rs.all++
	undisturbed(func() {
		rs.serve(r)
		rs.mu.Lock()
		rs.all--
		rs.mu.Unlock()
	})
}

// undisturbed runs f on a thread of its own without signals, by which Go preempts
// goroutines: one during SECCOMP_ADDFD_FLAG_SEND would make the kernel answer
// the program with descriptor 0.
func undisturbed(f func()) {
	go func() {
		runtime.LockOSThread() // until the thread ends
		blockSignals()
		f()
	}()
}

// begin notes that a call is being handled.
func (r *reader) begin() {
	r.of.mu.Lock()
	r.calls++
	r.busy = true
	asleep := !r.of.watching
	r.of.watching = true
	r.of.mu.Unlock()
	if asleep {
		r.of.wake <- struct{}{}
	}
}

// end notes that it has been handled, and reports whether to read on.
func (r *reader) end() bool {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	r.busy = false
	return !r.relieved
}

// watch relieves readers that are stuck. While nothing happens it sleeps.
func (rs *readers) watch() {
	for range rs.wake {
		var last uint64
		var of *reader
		for quiet := 0; quiet < quietTicks; {
			time.Sleep(stuckAfter)
			rs.mu.Lock()
			r := rs.current
			switch same := r == of && r.calls == last; {
			case same && r.busy && rs.all < maxReaders:
				rs.add()
				quiet = 0
			case same && !r.busy:
				quiet++
			default:
				quiet = 0
			}
			of, last = r, r.calls
			if quiet == quietTicks {
				rs.watching = false
			}
			rs.mu.Unlock()
		}
	}
}

// serve answers system calls until the listener fails, or another reader has
// taken over.
func (s *supervisor) serve(r *reader) {
	for {
		var n notification
		switch err := s.listener.receive(&n); err {
		case nil:
		case unix.ENOENT, unix.EAGAIN: // the caller was killed
			continue
		default:
			return
		}
		r.begin()
		t := s.trapped(&n)
		whenTurn := func() {
			undisturbed(func() {
				if t.waiting() {
					s.take(t, n.nr)
				} else {
					s.turns.end(t.tid, false) // a signal has ended it
				}
			})
		}
		switch {
		case t.tid == 0: // of a process that we do not see
			t.answer(proceed)
		case s.turns.begin(t.tid, whenTurn):
			s.take(t, n.nr)
		}
		if !r.end() {
			return
		}
	}
}

// take handles a call when its turn has come.
func (s *supervisor) take(t *trapped, nr int32) {
	later := s.handle(t, nr)
	s.turns.end(t.tid, later != nil)
	if later == nil {
		return
	}
	answer := func() {
		defer s.turns.answered(t.tid)
		t.answer(later())
	}
	if t.short != nil {
		undisturbed(answer)
	} else {
		go answer()
	}
}
