package shim

import "sync"

// turns lets the calls of one thread be handled one after the other. A signal can
// end a call while it is being handled, and the kernel restart it: then two of a
// thread are with us.
type turns struct {
	mu   sync.Mutex
	last map[int]*turn // by thread; only while a call is handled
}

// turn is a call's.
type turn struct{ ended chan struct{} } // nil while nobody waits

// begin takes a turn. If before is not nil, it comes when that is closed.
func (ts *turns) begin(tid int) (mine *turn, before <-chan struct{}) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.last == nil {
		ts.last = map[int]*turn{}
	}
	mine = &turn{}
	if prior := ts.last[tid]; prior != nil {
		prior.ended = make(chan struct{})
		before = prior.ended
	}
	ts.last[tid] = mine
	return mine, before
}

// end gives a turn back.
func (ts *turns) end(tid int, mine *turn) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.last[tid] == mine {
		delete(ts.last, tid)
	}
	if mine.ended != nil {
		close(mine.ended)
	}
}
