package main

import (
	"testing"

	"tnat64d/cmd/tnat64-lab/lab"
)

// TestKilled kills tnat64d without warning. The next start takes over what was
// left and works, and its stop leaves nothing.
func TestKilled(t *testing.T) { eachEngine(t, testKilled) }

func testKilled(t *testing.T, config string) {
	w := newWorld(t, lab.Options{}, config)
	t.Run("before", w.page)
	w.daemon.Kill()
	w.start(built(t, "tnat64d"), true)
	t.Run("after", w.page)
	// The checks of every test follow: SIGTERM, and all is as before.
}

// TestRestart stops and starts tnat64d: nothing is left in between, and the
// second CLAT has the address of the first, which the network knows.
func TestRestart(t *testing.T) {
	w := newWorld(t, lab.Options{}, "")
	first := w.clat
	if err := w.daemon.Stop(); err != nil {
		t.Error(err)
	}
	w.asBefore()
	w.start(built(t, "tnat64d"), true)
	t.Run("after", w.page)
	if w.clat != first {
		t.Errorf("CLAT is %+v after a restart, was %+v", w.clat, first)
	}
}
