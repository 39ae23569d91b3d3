package main

import "time"

// clockSet is called when somebody has set the wall clock, as NTP does after the
// boot of a machine without a clock of its own: the times of what has happened so far
// move with it.
func (d *tnat64d) clockSet(by time.Duration) {
	d.clock += by
	for _, u := range d.uplinks {
		u.since, u.plat.since = moved(u.since, by), moved(u.plat.since, by)
		for i := range u.history {
			u.history[i].Time = moved(u.history[i].Time, by)
		}
	}
	d.report.changed()
}

// moved returns t without its monotonic clock, which has not been set.
func moved(t time.Time, by time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Round(0).Add(by)
}
