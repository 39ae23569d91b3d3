package resume

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// The clocks are read one after the other, so that their differences are known
// to some microseconds only.
const precision = 50 * time.Microsecond

// clocks are the kernel's clocks at one moment. NTP's slewing moves them all,
// so that their differences change by jumps only.
type clocks struct {
	monotonic time.Duration // stands still while the machine sleeps
	boot      time.Duration // the same, and goes on
	wall      time.Duration // since 1970
}

// until compares two moments. What is smaller than the clocks' precision is 0.
func (c clocks) until(now clocks) Event {
	return Event{
		Slept: max(0, noticeable((now.boot-now.monotonic)-(c.boot-c.monotonic))),
		Set:   noticeable((now.wall - now.boot) - (c.wall - c.boot)),
	}
}

func noticeable(d time.Duration) time.Duration {
	if d.Abs() < precision {
		return 0
	}
	return d.Round(time.Microsecond)
}

// readClocks reads the clocks at nearly the same moment: somebody else may run
// between two readings, so the quickest of some attempts counts.
func readClocks() (best clocks, err error) {
	quickest := time.Duration(-1)
	for range 5 {
		var c clocks
		var after time.Duration
		for _, r := range []struct {
			id int32
			to *time.Duration
		}{
			{unix.CLOCK_MONOTONIC, &c.monotonic},
			{unix.CLOCK_BOOTTIME, &c.boot},
			{unix.CLOCK_REALTIME, &c.wall},
			{unix.CLOCK_MONOTONIC, &after},
		} {
			var t unix.Timespec
			if err := unix.ClockGettime(r.id, &t); err != nil {
				return clocks{}, fmt.Errorf("clock_gettime: %w", err)
			}
			*r.to = time.Duration(t.Nano())
		}
		if took := after - c.monotonic; quickest < 0 || took < quickest {
			best, quickest = c, took
		}
	}
	return best, nil
}
