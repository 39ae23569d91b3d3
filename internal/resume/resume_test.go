package resume

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/needs"
)

func TestUntil(t *testing.T) {
	before := clocks{monotonic: 100 * time.Second, boot: 150 * time.Second, wall: 1_800_000_000 * time.Second}
	// after returns the clocks after the time has passed, awake and asleep, and
	// the clock has been set.
	after := func(awake, asleep, set time.Duration) clocks {
		return clocks{
			monotonic: before.monotonic + awake,
			boot:      before.boot + awake + asleep,
			wall:      before.wall + awake + asleep + set,
		}
	}
	for _, c := range []struct {
		name string
		now  clocks
		want Event
	}{
		{"nothing", after(time.Hour, 0, 0), Event{}},
		{"slept", after(time.Minute, 8*time.Hour, 0), Event{Slept: 8 * time.Hour}},
		{"set forward", after(time.Minute, 0, time.Hour), Event{Set: time.Hour}},
		{"set back", after(time.Minute, 0, -time.Millisecond), Event{Set: -time.Millisecond}},
		{"slept, then set by NTP", after(time.Minute, time.Hour, -2*time.Second), Event{Slept: time.Hour, Set: -2 * time.Second}},
		{"readings apart", after(time.Minute, 20*time.Microsecond, -30*time.Microsecond), Event{}},
		{"never negative", after(time.Minute, -time.Second, 0), Event{}},
		{"to a microsecond", after(0, time.Second+499, time.Second-499), Event{Slept: time.Second, Set: time.Second}},
	} {
		if got := before.until(c.now); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestReadClocks(t *testing.T) {
	c, err := readClocks()
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(time.Unix(0, int64(c.wall))).Abs(); d > time.Minute || c.boot < c.monotonic-precision || c.monotonic <= 0 {
		t.Errorf("%+v", c)
	}
}

// The clock is set forward by a millisecond, and back again.
func TestWatch(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it sets the clock")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := make(chan Event, 10)
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, func(e Event) { events <- e }) }()
	time.Sleep(50 * time.Millisecond)
	select {
	case e := <-events:
		t.Fatalf("nothing has happened: %+v", e)
	default:
	}

	for _, d := range []time.Duration{time.Millisecond, -time.Millisecond} {
		begun := time.Now()
		err := step(d)
		took := time.Since(begun)
		if err != nil {
			needs.That(t, false, fmt.Sprintf("to set the clock: %v", err))
		}
		select {
		case e := <-events:
			// Between reading and setting the clock others may have run.
			if off := (e.Set - d).Abs(); e.Slept != 0 || off > took+20*time.Millisecond {
				t.Errorf("set by %s: %+v", d, e)
			}
		case <-time.After(60 * time.Second):
			t.Fatalf("set by %s: no event", d)
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("Watch does not end with its context")
	}
}

// step sets the clock by d.
func step(d time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return err
	}
	to := unix.NsecToTimespec(now.Nano() + int64(d))
	return unix.ClockSettime(unix.CLOCK_REALTIME, &to)
}

func TestWatchEndsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Watch(ctx, func(Event) { t.Error("an event") }); err != nil {
		t.Error(err)
	}
}
