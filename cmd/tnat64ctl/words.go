package main

import (
	"fmt"
	"strconv"
	"time"

	"tnat64d/internal/control"
)

// ago returns a duration in one unit, rounded down.
func ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return "a moment"
	case d < 2*time.Minute:
		return count(uint64(d/time.Second), "second")
	case d < 2*time.Hour:
		return count(uint64(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return count(uint64(d/time.Hour), "hour")
	}
	return count(uint64(d/(24*time.Hour)), "day")
}

// count returns a number with its unit: "1 packet", "2,000 packets".
func count(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(n) + " " + thing + "s"
}

// number returns n with its digits in groups of three.
func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size returns a number of bytes in the largest unit that fits.
func size(n uint64) string {
	if n < 1000 {
		return count(n, "byte")
	}
	f, unit := float64(n), 0
	for f >= 999.95 && unit < 5 {
		f, unit = f/1000, unit+1
	}
	return fmt.Sprintf("%.1f %cB", f, "?kMGTP"[unit])
}

// at returns the time of day of t, with the date if that is not the date of now.
func at(t, now time.Time) string {
	t = t.In(now.Location())
	if y, m, d := now.Date(); t.Before(time.Date(y, m, d, 0, 0, 0, 0, now.Location())) {
		return t.Format("Jan _2 15:04:05")
	}
	return t.Format("15:04:05")
}

// stateWords returns the name of a state within a sentence.
func stateWords(s control.State) string {
	switch s {
	case control.Up:
		return "up"
	case control.Moving:
		return "up, changing its address"
	case control.Starting:
		return "starting"
	case control.Held:
		return "waiting for the network to come back"
	case control.Waiting:
		return "waiting"
	case control.Standby:
		return "not needed"
	case control.Failed:
		return "failed"
	}
	return string(s) // of a newer daemon
}
