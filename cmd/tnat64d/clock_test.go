package main

import (
	"testing"
	"testing/synctest"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/resume"
)

// TestClockSet: the wall clock of a machine without one of its own is set a while
// after the boot, when the daemon runs already.
func TestClockSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOnlooker(t)
		o.started = time.Now()
		u := o.uplinks[0]
		u.since, u.history = time.Now(), []control.Change{{Time: time.Now()}}
		o.pass(1, 1, time.Minute)
		before, plat := status(o.tnat64d), u.plat.since

		const by = 72 * time.Hour
		go o.slept(resume.Event{Set: by})
		synctest.Wait()
		for len(o.events) > 0 {
			if err := o.handle(<-o.events); err != nil {
				t.Fatal(err)
			}
		}
		after := status(o.tnat64d)
		for name, moved := range map[string]time.Duration{
			"started": after.Started.Sub(before.Started),
			"since":   after.Uplinks[0].Since.Sub(before.Uplinks[0].Since),
			"history": after.Uplinks[0].History[0].Time.Sub(before.Uplinks[0].History[0].Time),
			"plat":    u.plat.since.Sub(plat),
		} {
			if moved != by {
				t.Errorf("%s: moved by %v, want %v", name, moved, by)
			}
		}
	})
}
