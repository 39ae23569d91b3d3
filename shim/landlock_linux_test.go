package shim

import (
	osexec "os/exec"
	"sync"
	"testing"
)

// Threads of a process that restrict themselves at the same time have both limits.
func TestLimitsOfThreadsAddUp(t *testing.T) {
	none, err := markOf(0)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		process := osexec.Command("sleep", "600")
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		tid := process.Process.Pid
		var l limits
		l.begin(none)
		var both sync.WaitGroup
		for thread := range uint16(8) {
			both.Go(func() {
				if err := l.apply(tid, ports(7, 8000+thread)); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		m, err := markOf(tid)
		if err != nil || !l.permits(m, 7) {
			t.Errorf("the port of all limits is refused: %v", err)
		}
		for thread := range uint16(8) {
			if l.permits(m, 8000+thread) {
				t.Errorf("port %d of one limit is permitted", 8000+thread)
			}
		}
		process.Process.Kill()
		process.Wait()
		if t.Failed() {
			return
		}
	}
}
