package main

import "time"

// wake is called after the machine has slept. Lifetimes have not run
// meanwhile, and the network may be another one.
func (d *discoveries) wake(after time.Duration) {
	now, byClock := time.Now(), after > 0
	if byClock != d.byClock && now.Sub(d.wokeUp) < wakeOnce {
		return
	}
	d.wokeUp, d.byClock = now, byClock
	args := []any{}
	if byClock {
		args = append(args, "slept", after.Round(time.Second))
	}
	d.log.Info("resumed from suspend: checking whether the network is still the same", args...)
	for _, l := range d.links {
		l.finder.Attached()
	}
}

// wakeOnce is for how long a word of the other source is about the same
// awakening: logind and the clock both tell. A second word of the same one is
// about another.
const wakeOnce = 3 * time.Second
