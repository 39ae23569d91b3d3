package shim

import (
	"slices"
	"testing"
)

// A signal ends a thread's call again and again while the first is handled. Only
// the last of them is handled after it, and no more than one at a time.
func TestCallsOfAThreadAreSerialised(t *testing.T) {
	var ts turns
	var order []string
	call := func(name string) func() { return func() { order = append(order, name) } }
	if !ts.begin(1, call("first")) {
		t.Fatal("the first waits")
	}
	if !ts.begin(2, call("another thread's")) {
		t.Fatal("another thread waits")
	}
	for range 10000 {
		if ts.begin(1, call("interrupted")) {
			t.Fatal("two are handled at once")
		}
	}
	if ts.begin(1, call("last")) || len(order) != 0 {
		t.Fatal("the last does not wait")
	}
	ts.end(1, false)
	if want := []string{"last"}; !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
	ts.end(1, false)
	if len(ts.by) != 1 || len(order) != 1 {
		t.Errorf("%d threads are left, %q", len(ts.by), order)
	}
}

// Answers that come later are bounded for a thread, too.
func TestPendingAnswersOfAThreadAreBounded(t *testing.T) {
	var ts turns
	handled := 0
	for range 10000 {
		if ts.begin(1, func() { handled++ }) {
			handled++
			ts.end(1, true)
		}
	}
	if handled != maxPending {
		t.Errorf("%d calls have been handled, want %d", handled, maxPending)
	}
	ts.answered(1) // the oldest sees that nobody waits for it
	if handled != maxPending+1 {
		t.Errorf("%d calls have been handled after one was answered, want %d", handled, maxPending+1)
	}
	ts.end(1, true)
	for range maxPending {
		ts.answered(1)
	}
	if len(ts.by) != 0 {
		t.Errorf("%d threads are left", len(ts.by))
	}
}
