package main

import (
	"time"
)

// onTick does what is due: it judges the PLATs, notes the PREF64 in use for the next
// process, and tells systemd that the daemon is alive. No other timer runs on a host at rest.
func (d *tnat64d) onTick() {
	if d.path.followCaptures() {
		d.report.changed()
	}
	now := time.Now()
	next := time.Duration(0)
	sooner := func(wait time.Duration) {
		if wait > 0 && (next == 0 || wait < next) {
			next = wait
		}
	}
	for _, u := range d.uplinks {
		sooner(d.judge.look(u, now))
	}
	sooner(d.found.memory.keep(d.found.links))
	if d.alive > 0 {
		d.report.start.Alive()
		sooner(d.alive)
	}
	if next == 0 {
		d.tick.Stop()
		return
	}
	d.tick.Reset(next)
}
