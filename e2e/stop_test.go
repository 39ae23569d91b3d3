package e2e

import (
	"testing"
	"time"

	"tnat64d/internal/lab"
)

// TestKilled kills tnat64d without warning. The next start takes over what was
// left and works, and its stop leaves nothing.
func TestKilled(t *testing.T) { eachSteering(t, testKilled) }

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

// TestRestartDuringDownload restarts tnat64d while the server sends as fast as
// it is allowed to: the download takes longer, and is whole.
func TestRestartDuringDownload(t *testing.T) {
	eachSteering(t, func(t *testing.T, config string) {
		t.Parallel()
		w := newWorld(t, lab.Options{}, config)
		wait := w.longDownload(t, 60<<20)
		time.Sleep(time.Second)
		if err := w.daemon.Stop(); err != nil {
			t.Error(err)
		}
		w.start(built(t, "tnat64d"), true)
		wait()
	})
}
