package shim

import "sync"

// turns lets the calls of one thread be handled one after the other. A signal can
// end a call while it is being handled, and the kernel restart it: then two of a
// thread are with us, and in a flood of signals one more with every signal. Only
// the last of them has somebody who waits for its answer.
type turns struct {
	mu sync.Mutex
	by map[int]*turn // by thread; only while one of its calls is with us
}

// turn is what a thread's calls are at.
type turn struct {
	handling bool
	pending  int    // calls that have been handled and whose answer comes later
	next     func() // handles the thread's last call, which waits for its turn
}

// maxPending bounds the answers that come later for one thread. All but one of
// them are for calls that a signal has ended, and end soon.
const maxPending = 16

// begin reports whether a call may be handled now. If not, f will be called when
// it may, unless the thread makes another call before that.
func (ts *turns) begin(tid int, f func()) (now bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.by[tid]
	if t == nil {
		if ts.by == nil {
			ts.by = map[int]*turn{}
		}
		t = &turn{}
		ts.by[tid] = t
	}
	if t.handling || t.pending >= maxPending {
		t.next = f
		return false
	}
	t.handling = true
	return true
}

// end notes that a call has been handled. If its answer comes later, answered is
// to be called after that.
func (ts *turns) end(tid int, later bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.by[tid]
	t.handling = false
	if later {
		t.pending++
	}
	ts.goOn(tid, t)
}

// answered notes that an answer has been given that came later.
func (ts *turns) answered(tid int) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.by[tid]
	t.pending--
	ts.goOn(tid, t)
}

// goOn has the next call handled if there is one and it may be. It is called with
// the lock held.
func (ts *turns) goOn(tid int, t *turn) {
	switch {
	case t.handling:
	case t.next != nil && t.pending < maxPending:
		f := t.next
		t.next, t.handling = nil, true
		f()
	case t.next == nil && t.pending == 0:
		delete(ts.by, tid)
	}
}
