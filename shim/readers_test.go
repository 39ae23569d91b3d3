package shim

import (
	"sync"
	"testing"
	"time"
)

// A handler that does not return must not keep others from being answered.
func TestReaderTakesOverFromBlockedOne(t *testing.T) {
	calls := make(chan chan struct{})
	ended := make(chan struct{}, maxReaders)
	rs := newReaders(func(r *reader) {
		defer func() { ended <- struct{}{} }()
		for c := range calls {
			r.begin()
			<-c // handling takes until somebody closes it
			if !r.end() {
				return
			}
		}
	})
	free := make(chan struct{})
	close(free)
	stuck := make([]chan struct{}, 5)
	for i := range stuck {
		stuck[i] = make(chan struct{})
		calls <- stuck[i]
		calls <- free // is taken only if somebody else reads
	}
	for _, c := range stuck {
		close(c)
	}
	for range stuck {
		<-ended
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.current.relieved {
		t.Error("nobody reads any more")
	}
}

// However many are stuck, there is a bound; and without work nobody looks.
func TestReadersAreBoundedAndSleep(t *testing.T) {
	calls := make(chan chan struct{})
	rs := newReaders(func(r *reader) {
		for c := range calls {
			r.begin()
			<-c
			if !r.end() {
				return
			}
		}
	})
	end := make(chan struct{})
	var sent sync.WaitGroup
	sent.Go(func() {
		for range maxReaders + 10 {
			select {
			case calls <- make(chan struct{}):
			case <-end:
				return
			}
		}
	})
	look := func() (n int, watching bool) {
		rs.mu.Lock()
		defer rs.mu.Unlock()
		return rs.all, rs.watching
	}
	for n, _ := look(); n < maxReaders; n, _ = look() {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(5 * stuckAfter)
	if n, _ := look(); n > maxReaders {
		t.Errorf("%d readers", n)
	}
	close(end)
	sent.Wait()
	quiet := newReaders(func(r *reader) { r.begin(); r.end(); select {} })
	for {
		quiet.mu.Lock()
		watching, called := quiet.watching, quiet.current.calls > 0
		quiet.mu.Unlock()
		if called && !watching {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
