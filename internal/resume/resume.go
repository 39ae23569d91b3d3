// Package resume tells when the machine has slept or its clock has been set,
// from the kernel's clocks alone: no D-Bus, no timer that fires, no thread.
package resume

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Event is a jump of the wall clock.
type Event struct {
	Slept time.Duration // for how long the machine was suspended; 0: it was not
	Set   time.Duration // by how much the clock has been set, besides; may be negative
}

// Watch calls f after every suspend and every setting of the clock, one call at
// a time, until ctx ends; then it returns nil. Several jumps in quick
// succession may be one event. An error means that the kernel does not tell.
//
// A timer on the wall clock is cancelled by the kernel when that clock jumps,
// which resuming does too (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). The
// timer itself never expires.
func Watch(ctx context.Context, f func(Event)) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("timerfd_create: %w", err)
	}
	timer := os.NewFile(uintptr(fd), "timerfd") // non-blocking: reads wait in Go's poller
	defer timer.Close()
	before, err := readClocks() // before the timer is set: nothing is missed
	if err != nil {
		return err
	}
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: math.MaxInt64}}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil {
		return fmt.Errorf("timerfd_settime: %w", err)
	}
	defer context.AfterFunc(ctx, func() { timer.SetReadDeadline(time.Unix(1, 0)) })()

	var expirations [8]byte
	for {
		_, err := timer.Read(expirations[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ECANCELED):
		case err != nil:
			return fmt.Errorf("timerfd: %w", err)
		default:
			continue // the end of time
		}
		now, err := readClocks()
		if err != nil {
			return err
		}
		if e := before.until(now); e != (Event{}) {
			f(e)
		}
		before = now
	}
}
