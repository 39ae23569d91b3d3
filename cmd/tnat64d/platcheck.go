package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"tnat64d/clat/host"
	"tnat64d/clat/plan"
	"tnat64d/internal/control"
	"tnat64d/pref64"
)

// doubt is for how long another PREF64 is preferred to one whose PLAT does not
// answer.
const doubt = 10 * time.Minute

// platJudge judges the PLATs of uplinks: by what is translated anyway, and by
// asking some destinations when one seems to be silent.
type platJudge struct {
	*inbox
	log     *slog.Logger
	found   *discoveries
	paths   *datapaths
	changed func()     // tells those who watch
	target  netip.Addr // discovery.plat-probe; may be invalid

	// peers lists with whom programs speak from a CLAT's address; unreachable is
	// about a router on a link; probe asks destinations through a PLAT. See probeWay.
	peers       func(netip.Addr) []host.Peer
	unreachable func(link int, router netip.Addr) bool
	probe       func(context.Context, probeWay, []target) bool
}

// look takes in the counters of an uplink, asks if the PLAT is to be asked, and
// returns how long until the next look; 0: there is nothing to judge.
func (j *platJudge) look(u *uplink, now time.Time) time.Duration {
	if u.state != control.Up && u.state != control.Moving {
		u.judged = platPath{}
		return 0
	}
	p := j.paths.byName(u.want.CLAT.TUN)
	if p == nil {
		return 0
	}
	f := flowOf(p.Stats())
	flows := f != u.plat.last
	if via := (platPath{u.want.CLAT.PREF64.Prefix, u.want.CLAT.IPv6}); via != u.judged {
		u.judged = via
		u.plat.reset(now, f)
	} else if was := u.plat.state; u.plat.look(now, f) {
		j.judged(u, was, "")
	}
	j.gather(u, now)
	j.calm(u)
	switch {
	case u.plat.checkDue(now):
		j.check(u, now)
	case u.plat.returnDue(now, flows && len(j.doubted(u)) > 0):
		j.checkReturn(u)
	}
	if a := j.target; a.IsValid() && u.plat.probeDue(now) {
		way := probeWay{device: u.want.CLAT.TUN, source: u.want.CLAT.IPv4, once: true}
		go j.probe(j.ctx, way, []target{{addr: a}})
	}
	return u.plat.next(now)
}

// calm ends the questions to DNS that a silent PLAT has caused, when the PLAT in use
// answers and no other PREF64 is in doubt.
func (j *platJudge) calm(u *uplink) {
	l := j.found.links[u.Index]
	if !u.askedDNS || u.plat.state != control.PLATAnswering || l == nil || len(j.doubted(u)) > 0 {
		return
	}
	u.askedDNS = false
	l.finder.AskDNS(false)
}

// noteEvery is how often evidence is gathered while the PLAT answers: a closed
// connection is remembered by the kernel for a minute.
const noteEvery = 20 * time.Second

// gather notes who answers, while somebody does.
func (j *platJudge) gather(u *uplink, now time.Time) {
	if u.plat.state != control.PLATAnswering || !u.plat.began.IsZero() || now.Sub(u.noted) < noteEvery {
		return
	}
	u.noted = now
	u.evidence.note(j.peers(u.want.CLAT.IPv4), u.judged, now)
}

// check asks through the PLAT in use and, if nobody answers, behind the other
// PREF64s. The answer comes as an event.
func (j *platJudge) check(u *uplink, now time.Time) {
	c := u.want.CLAT
	peers := j.peers(c.IPv4)
	u.evidence.note(peers, u.judged, now)
	k := platCheck{via: u.judged, targets: u.evidence.targets(peers, u.judged), known: u.plat.known, quiet: now.Sub(u.plat.began)}
	if a := j.target; a.IsValid() {
		k.targets, k.configured = append(k.targets, target{addr: a}), true
	}
	if l := j.found.links[u.Index]; l != nil {
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
		k.gone = j.unreachable(u.Index, k.inUse.Router)
	}
	u.plat.check(now)
	link, in := u.Uplink, probeWay{device: c.TUN, source: c.IPv4}
	go func() {
		if k.answered = j.probe(j.ctx, in, k.targets); !k.answered {
			for i := range k.candidates {
				k.candidates[i].answered = j.probe(j.ctx, probeWay{device: link.Name, pref64: k.candidates[i].Prefix}, k.targets)
			}
		}
		j.post(platChecked{link, k})
	}()
}

// maxCandidates bounds how many other PREF64s are tried in one check.
const maxCandidates = 3

// concluded takes in a check.
func (j *platJudge) concluded(us []*uplink, link plan.Uplink, k platCheck) {
	i := slices.IndexFunc(us, func(u *uplink) bool { return u.Uplink == link && u.judged == k.via })
	if i < 0 {
		return // another network meanwhile, or another PREF64
	}
	u := us[i]
	v, was := k.judge(), u.plat.state
	f := u.plat.last
	if p := j.paths.byName(u.want.CLAT.TUN); p != nil {
		f = flowOf(p.Stats())
	}
	if u.plat.ended(f) {
		v = verdict{state: alive}
	}
	next := "keeping it: no other PREF64 is known"
	switch {
	case len(v.doubt) > 0:
		next = "trying another PREF64"
	case k.gone:
		next = "its router is unreachable; using a PREF64 of another router, if there is one"
	case len(k.candidates) > 0:
		next = "keeping it: too little evidence that another PREF64 works"
	}
	if u.plat.conclude(v.state, time.Now()) || len(v.doubt) > 0 {
		j.judged(u, was, next)
	}
	if l := j.found.links[u.Index]; l != nil {
		if k.gone && v.state != alive {
			l.finder.Unreachable(k.inUse.Router)
		}
		for _, p := range v.doubt {
			l.finder.Doubt(p, doubt)
		}
	}
}

// doubted lists the PREF64s besides the one in use that are in doubt.
func (j *platJudge) doubted(u *uplink) (ps []netip.Prefix) {
	l := j.found.links[u.Index]
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
func (j *platJudge) checkReturn(u *uplink) {
	c := u.want.CLAT
	peers := j.peers(c.IPv4)
	u.evidence.note(peers, u.judged, time.Now())
	targets := u.evidence.targets(peers, u.judged)
	if a := j.target; a.IsValid() {
		targets = append(targets, target{addr: a})
	}
	if len(targets) == 0 {
		return
	}
	u.plat.checking = true
	link, via, ps := u.Uplink, u.judged, j.doubted(u)
	go func() {
		back := returnChecked{link: link, via: via, answers: map[netip.Prefix]bool{}}
		for _, p := range ps {
			back.answers[p] = j.probe(j.ctx, probeWay{device: link.Name, pref64: p}, targets)
		}
		j.post(back)
	}()
}

// comeBack takes in what checkReturn has found.
func (j *platJudge) comeBack(us []*uplink, e returnChecked) {
	i := slices.IndexFunc(us, func(u *uplink) bool { return u.Uplink == e.link && u.judged == e.via })
	if i < 0 {
		return
	}
	u := us[i]
	u.plat.checking = false
	l := j.found.links[e.link.Index]
	if l == nil {
		return
	}
	for p, answers := range e.answers {
		switch {
		case answers:
			j.log.Info("the PLAT answers again", "iface", u.Name, "pref64", p)
			l.finder.Doubt(p, 0)
		case u.plat.state == control.PLATAnswering:
			l.finder.Doubt(p, doubt)
		}
	}
}

// judged tells what is new about a PLAT.
func (j *platJudge) judged(u *uplink, was control.PLATState, next string) {
	prefix := u.want.CLAT.PREF64.Prefix
	l := j.found.links[u.Index]
	switch {
	case u.plat.state == control.PLATSilent:
		j.log.Warn("the PLAT does not answer: packets are sent and no answers arrive", "iface", u.Name, "pref64", prefix, "next", next)
		if l != nil {
			u.askedDNS = true
			l.finder.AskDNS(true)
		}
	case was == control.PLATSilent:
		j.log.Info("the PLAT answers again", "iface", u.Name, "pref64", prefix)
		if l != nil {
			u.askedDNS = false
			l.finder.AskDNS(false)
			l.finder.Doubt(prefix, 0)
		}
	default:
		j.log.Debug("the PLAT answers", "iface", u.Name, "pref64", prefix)
	}
	j.changed()
}
