package main

import (
	"net/netip"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"tnat64d/clat/plan"
	"tnat64d/internal/control"
	"tnat64d/pref64"
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
		f := flowOf(p.Stats())
		flows := f != u.plat.last
		if way := u.want.CLAT.PREF64.Prefix.String() + " " + u.want.CLAT.IPv6.String(); way != u.judged {
			u.judged = way
			u.plat.reset(now, f)
		} else if was := u.plat.state; u.plat.look(now, f) {
			d.judged(u, was, "")
		}
		d.gather(u, now)
		switch {
		case u.plat.checkDue(now):
			d.check(u, now)
		case u.plat.returnDue(now, flows && len(d.doubted(u)) > 0):
			d.checkReturn(u)
		}
		if a := d.conf.Discovery.PLATProbe; a.IsValid() && u.plat.probeDue(now) {
			way := probeWay{device: u.want.CLAT.TUN, source: u.want.CLAT.IPv4, once: true}
			go d.probe(d.ctx, way, []target{{addr: a}})
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

// noteEvery is how often evidence is gathered while the PLAT answers: a closed
// connection is remembered by the kernel for a minute.
const noteEvery = 20 * time.Second

// gather notes who answers, while somebody does.
func (d *tnat64d) gather(u *uplink, now time.Time) {
	if u.plat.state != control.PLATAnswering || !u.plat.began.IsZero() || now.Sub(u.noted) < noteEvery {
		return
	}
	u.noted = now
	u.evidence.note(d.peers(u.want.CLAT.IPv4), u.judged, now)
}

// check asks through the PLAT in use and, if nobody answers, behind the other
// PREF64s. The answer comes as an event.
func (d *tnat64d) check(u *uplink, now time.Time) {
	c := u.want.CLAT
	peers := d.peers(c.IPv4)
	u.evidence.note(peers, u.judged, now)
	k := platCheck{way: u.judged, targets: u.evidence.targets(peers, u.judged), known: u.plat.known}
	if a := d.conf.Discovery.PLATProbe; a.IsValid() {
		k.targets, k.configured = append(k.targets, target{addr: a}), true
	}
	if l := d.links[u.Index]; l != nil {
		for _, o := range l.finder.Snapshot().Candidates {
			switch {
			case o.Prefix == c.PREF64.Prefix:
				k.inUse = o
			case !o.Neighbour && !o.Doubted && len(k.candidates) < maxCandidates:
				k.candidates = append(k.candidates, candidateCheck{Observation: o})
			}
		}
	}
	if k.inUse.Origin == pref64.RA {
		k.gone = d.unreachable(u.Index, k.inUse.Router)
	}
	u.plat.check(now)
	link, in := u.Uplink, probeWay{device: c.TUN, source: c.IPv4}
	go func() {
		if k.answered = d.probe(d.ctx, in, k.targets); !k.answered {
			for i := range k.candidates {
				k.candidates[i].answered = d.probe(d.ctx, probeWay{device: link.Name, pref64: k.candidates[i].Prefix}, k.targets)
			}
		}
		d.post(platChecked{link, k})
	}()
}

// maxCandidates bounds how many other PREF64s are tried in one check.
const maxCandidates = 3

// concluded takes in a check.
func (d *tnat64d) concluded(link plan.Uplink, k platCheck) {
	i := slices.IndexFunc(d.uplinks, func(u *uplink) bool { return u.Uplink == link && u.judged == k.way })
	if i < 0 {
		return // another network meanwhile, or another PREF64
	}
	u := d.uplinks[i]
	v, was := k.judge(), u.plat.state
	f := u.plat.last
	if p := d.path.byName(u.want.CLAT.TUN); p != nil {
		f = flowOf(p.Stats())
	}
	if u.plat.ended(f) {
		v = verdict{state: alive}
	}
	next := "staying, as there is no other"
	switch {
	case len(v.doubt) > 0:
		next = "trying another PREF64"
	case k.gone:
		next = "its router is unreachable; using what other routers advertise, if they do"
	case len(k.candidates) > 0:
		next = "staying, as there is too little evidence for another one"
	}
	if u.plat.conclude(v.state, time.Now()) || len(v.doubt) > 0 {
		d.judged(u, was, next)
	}
	if l := d.links[u.Index]; l != nil {
		if k.gone && v.state != alive {
			l.finder.Unreachable(k.inUse.Router)
		}
		for _, p := range v.doubt {
			l.finder.Doubt(p, doubt)
		}
	}
}

// doubted lists the PREF64s besides the one in use that are in doubt.
func (d *tnat64d) doubted(u *uplink) (ps []netip.Prefix) {
	l := d.links[u.Index]
	if l == nil {
		return nil
	}
	for _, o := range l.finder.Snapshot().Candidates {
		if o.Doubted && o.Prefix != u.want.CLAT.PREF64.Prefix && len(ps) < maxCandidates {
			ps = append(ps, o.Prefix)
		}
	}
	return ps
}

// checkReturn asks behind the PREF64s that were given up. One by which somebody
// answers is no longer in doubt; one by which nobody does stays so, if there is
// somebody who answers by the one in use.
func (d *tnat64d) checkReturn(u *uplink) {
	c := u.want.CLAT
	peers := d.peers(c.IPv4)
	u.evidence.note(peers, u.judged, time.Now())
	targets := u.evidence.targets(peers, u.judged)
	if a := d.conf.Discovery.PLATProbe; a.IsValid() {
		targets = append(targets, target{addr: a})
	}
	if len(targets) == 0 {
		return
	}
	u.plat.checking = true
	link, way, ps := u.Uplink, u.judged, d.doubted(u)
	go func() {
		back := returnChecked{link: link, way: way, answers: map[netip.Prefix]bool{}}
		for _, p := range ps {
			back.answers[p] = d.probe(d.ctx, probeWay{device: link.Name, pref64: p}, targets)
		}
		d.post(back)
	}()
}

// comeBack takes in what checkReturn has found.
func (d *tnat64d) comeBack(e returnChecked) {
	i := slices.IndexFunc(d.uplinks, func(u *uplink) bool { return u.Uplink == e.link && u.judged == e.way })
	l := d.links[e.link.Index]
	if i < 0 || l == nil {
		return
	}
	u := d.uplinks[i]
	u.plat.checking = false
	for p, answers := range e.answers {
		switch {
		case answers:
			d.log.Info("the PLAT answers again", "iface", u.Name, "pref64", p)
			l.finder.Doubt(p, 0)
		case u.plat.state == control.PLATAnswering:
			l.finder.Doubt(p, doubt)
		}
	}
}

// judged tells what is new about a PLAT.
func (d *tnat64d) judged(u *uplink, was control.PLATState, next string) {
	prefix := u.want.CLAT.PREF64.Prefix
	l := d.links[u.Index]
	switch {
	case u.plat.state == control.PLATSilent:
		d.log.Warn("the PLAT does not answer: packets go out and nothing comes back", "iface", u.Name, "pref64", prefix, "next", next)
		if l != nil {
			l.finder.AskDNS(true)
		}
	case was == control.PLATSilent:
		d.log.Info("the PLAT answers again", "iface", u.Name, "pref64", prefix)
		if l != nil {
			l.finder.AskDNS(false)
			l.finder.Doubt(prefix, 0)
		}
	default:
		d.log.Debug("the PLAT answers", "iface", u.Name, "pref64", prefix)
	}
	d.changed()
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
