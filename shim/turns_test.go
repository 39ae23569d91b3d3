package shim

import (
	"slices"
	"testing"
)

func TestCallsOfAThreadAreSerialised(t *testing.T) {
	var ts turns
	first, before := ts.begin(1)
	if before != nil {
		t.Fatal("the first waits")
	}
	if _, before := ts.begin(2); before != nil {
		t.Fatal("another thread waits")
	}
	var order []string
	second, before2 := ts.begin(1)
	third, before3 := ts.begin(1)
	done := make(chan struct{})
	go func() {
		<-before3
		order = append(order, "third")
		ts.end(1, third)
		close(done)
	}()
	select {
	case <-before2:
		t.Fatal("the second does not wait")
	default:
	}
	order = append(order, "first")
	ts.end(1, first)
	<-before2
	order = append(order, "second")
	ts.end(1, second)
	<-done
	if want := []string{"first", "second", "third"}; !slices.Equal(order, want) {
		t.Errorf("%q", order)
	}
	if len(ts.last) != 1 {
		t.Errorf("%d threads are left", len(ts.last))
	}
}
