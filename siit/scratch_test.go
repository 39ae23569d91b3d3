package siit

import "testing"

// Identifications that were reserved are not given out again.
func TestTakeIDs(t *testing.T) {
	s := NewScratch(65530)
	for _, want := range []struct{ n, first int }{{1, 65531}, {10, 65532}, {3, 6}} {
		if got := s.TakeIDs(want.n); got != uint16(want.first) {
			t.Errorf("TakeIDs(%d) = %d, want %d", want.n, got, want.first)
		}
	}
	if got := s.nextID(); got != 9 {
		t.Errorf("the next identification is %d, want 9", got)
	}
}
