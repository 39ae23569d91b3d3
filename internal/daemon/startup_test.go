package daemon

import (
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"

	"tnat64d/internal/daemon/daemontest"

	"github.com/google/go-cmp/cmp"
)

// TestStartup checks that the watchdog stays out of the start, where a message would
// arm it, and gets its own limit back later.
func TestStartup(t *testing.T) {
	heard := daemontest.Listen(t)
	t.Setenv("WATCHDOG_USEC", "180000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))

	log := slog.New(slog.DiscardHandler)
	s := NewStartup(log)
	s.Alive()
	s.Extend(10 * time.Minute)()
	s.Ready("STATUS=fine")
	s.Alive()
	done := s.Extend(10 * time.Minute)
	done()
	s.Extend(time.Minute)() // is less than the watchdog's
	Notify(log, "end")

	var got []string
	for b := make([]byte, 200); len(got) == 0 || got[len(got)-1] != "end"; {
		heard.SetReadDeadline(time.Now().Add(time.Second)) // what has been sent is there already
		n, err := heard.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b[:n]))
	}
	want := []string{
		"EXTEND_TIMEOUT_USEC=600000000",
		"READY=1\nSTATUS=fine",
		"WATCHDOG=1",
		"WATCHDOG_USEC=600000000\nWATCHDOG=1",
		"WATCHDOG_USEC=180000000\nWATCHDOG=1",
		"end",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
