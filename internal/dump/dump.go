// Package dump reads lists from the kernel by netlink whole. A list that changes
// while the kernel gives it is incomplete, and is read again.
package dump

import (
	"errors"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// Whole calls read until its list is whole, at most tries times with a pause
// between them, and returns its last answer. It also calls read again while
// another list is being read on the same socket (EBUSY).
func Whole[T any](tries int, pause time.Duration, read func() (T, error)) (v T, err error) {
	for n := range tries {
		if n > 0 {
			time.Sleep(pause)
		}
		if v, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, syscall.EBUSY) {
			break
		}
	}
	return v, err
}
