package main

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"tnat64d/internal/control"
)

// doubt is for how long another PREF64 is preferred to one whose PLAT does not
// answer.
const doubt = 10 * time.Minute

// look does what must be done now and then: it judges the PLATs and tells
// systemd that we are alive. It is the only timer of a host at rest.
func (d *tnat64d) look() {
	d.followCaptures()
	now := time.Now()
	next := time.Duration(0)
	sooner := func(wait time.Duration) {
		if next == 0 || wait < next {
			next = wait
		}
	}
	for _, u := range d.uplinks {
		if u.state != control.Up && u.state != control.Moving {
			u.judged = ""
			continue
		}
		p := d.path.byName(u.want.CLAT.TUN)
		if p == nil {
			continue
		}
		f := d.path.of(p).flow()
		if way := u.want.CLAT.PREF64.Prefix.String() + " " + u.want.CLAT.IPv6.String(); way != u.judged {
			u.judged = way
			u.plat.reset(now, f)
		} else if was := u.plat.state; u.plat.look(now, f) {
			d.judged(u, was)
		} else if was == control.PLATSilent && now.Sub(u.doubted) >= doubt {
			if others, hopeful := d.others(u); hopeful > 0 || others == 0 {
				d.doubt(u, doubt) // there was no other PREF64, and there may be one now
			}
		}
		if target := d.conf.Discovery.PLATProbe; target.IsValid() && u.plat.probeDue(now) {
			if err := probe(d.ctx, u.want.CLAT.TUN, u.want.CLAT.IPv4, target); err != nil {
				d.log.Debug("the PLAT cannot be probed", "iface", u.Name, "reason", err)
			}
		}
		sooner(u.plat.next(now))
	}
	if d.alive > 0 {
		notify(d.log, daemon.SdNotifyWatchdog)
		sooner(d.alive)
	}
	if next == 0 {
		d.tick.Stop()
		return
	}
	d.tick.Reset(next)
}

// judged tells what is new about a PLAT, and turns to another PREF64 if there
// is one.
func (d *tnat64d) judged(u *uplink, was control.PLATState) {
	prefix := u.want.CLAT.PREF64.Prefix
	switch {
	case u.plat.state == control.PLATSilent:
		what := "there is no other"
		switch others, hopeful := d.others(u); {
		case hopeful > 0:
			d.doubt(u, doubt)
			what = fmt.Sprintf("trying another; this one again in %v", doubt)
		case others > 0:
			// To go back and forth would only break what little works.
			what = "staying, as no other has answered lately"
		default:
			d.doubt(u, doubt) // for one that may come
		}
		d.log.Warn("the PLAT does not answer: packets go out and nothing comes back", "iface", u.Name, "pref64", prefix, "next", what)
	case was == control.PLATSilent:
		d.doubt(u, 0)
		d.log.Info("the PLAT answers again", "iface", u.Name, "pref64", prefix)
	default:
		d.log.Debug("the PLAT answers", "iface", u.Name, "pref64", prefix)
	}
	d.changed()
}

// others counts the PREF64s besides the one in use, and those of them whose PLAT
// may answer.
func (d *tnat64d) others(u *uplink) (all, hopeful int) {
	l := d.links[u.Index]
	if l == nil {
		return 0, 0
	}
	for _, c := range l.finder.Snapshot().Candidates {
		if c.Prefix == u.want.CLAT.PREF64.Prefix {
			continue
		}
		all++
		if !c.Doubted {
			hopeful++
		}
	}
	return all, hopeful
}

// doubt makes every other PREF64 preferred to the one in use for that long; 0
// ends it.
func (d *tnat64d) doubt(u *uplink, howLong time.Duration) {
	u.doubted = time.Now()
	if l := d.links[u.Index]; l != nil {
		l.finder.Doubt(u.want.CLAT.PREF64.Prefix, howLong)
	}
}

// wake is called after the machine has slept. Lifetimes have not run
// meanwhile, and the network may be another one.
func (d *tnat64d) wake(after time.Duration) {
	now, byClock := time.Now(), after > 0
	if byClock != d.byClock && now.Sub(d.wokeUp) < wakeOnce {
		return
	}
	d.wokeUp, d.byClock = now, byClock
	args := []any{}
	if byClock {
		args = append(args, "slept", after.Round(time.Second))
	}
	d.log.Info("woken up: looking whether the network is still the same", args...)
	for _, l := range d.links {
		l.finder.Attached()
	}
}

// wakeOnce is for how long a word of the other source is about the same
// awakening: logind and the clock both tell. A second word of the same one is
// about another.
const wakeOnce = 3 * time.Second
