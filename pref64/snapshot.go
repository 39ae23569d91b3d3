package pref64

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Snapshot is everything that a Finder knows.
type Snapshot struct {
	Candidates []Observation  // usable, each prefix once, the one in use first; none if none is in use
	Routers    [][]netip.Addr // for each candidate the routers that advertise it, the one that is followed first
	HeardRA    bool           // a whole, valid Router Advertisement of a default router since Attached
	OnLink     []OnLink       // advertised for addresses (A=1) since Attached, and still valid
	Excused    []netip.Prefix // of Tracker.SetOwn that do not count against the candidates
	MTU        int            // bytes, of the last RA with an MTU option, or 0; counts only below the interface's own (RFC 4861 section 6.3.4)
	Resolvers  []netip.Addr   // that are asked, in this order; those that routers advertise first, without zone
	Discovery  string         // how PREF64 is looked for at present, in words
	Ignored    []Ignored      // what was heard lately and is not used, the latest last
}

// Snapshot returns what is known now.
func (f *Finder) Snapshot() Snapshot {
	f.mu.Lock()
	listening := f.listening
	f.mu.Unlock()

	f.Tracker.mu.Lock()
	defer f.Tracker.mu.Unlock()
	now, t := time.Now(), &f.state
	s := Snapshot{
		Candidates: slices.Clone(t.choice.candidates),
		HeardRA:    t.link.heard == defaultRouterRA,
		OnLink:     t.onLink.valid(&t.routers, now),
		Excused:    t.excuses(t.choice.candidates),
		MTU:        t.mtu,
		Resolvers:  f.options.Servers,
		Ignored:    slices.Clone(t.ignored.recent),
		Discovery:  discovery(t, f.options, listening, now),
	}
	for _, o := range s.Candidates {
		s.Routers = append(s.Routers, t.speakers(o))
	}
	if len(s.Resolvers) == 0 {
		s.Resolvers = t.resolvers.order(t.inquiry.resolvers, &t.routers)
	}
	s.Resolvers, _ = choose(s.Resolvers)
	return s
}

// discovery says how PREF64 is looked for at present. listening says why
// Router Advertisements cannot be received; nil: they can.
func discovery(t *state, o Options, listening error, now time.Time) string {
	switch {
	case len(o.Static) > 0:
		return "configured; nothing is discovered"
	case !o.RA && !o.DNS:
		return "nothing is configured and nothing is discovered"
	}
	carried := t.selection().carried()
	var say []string
	switch {
	case !o.RA:
	case listening != nil:
		say = append(say, "router advertisements cannot be received: "+listening.Error())
	case carried:
		say = append(say, "router advertisements")
		if wrong := t.renewal.words(t.choice.current); wrong != "" {
			say = append(say, wrong)
		}
	case t.renewal.lost.prefix.IsValid():
		say = append(say, t.renewal.words(t.choice.current))
	case t.link.heard != noRA && t.link.pref64 != notCarried:
		say = append(say, "no default router has been heard")
	case t.link.heard != noRA || t.link.pref64 == notCarried || len(t.advertised()) > 0:
		say = append(say, "router advertisements carry no PREF64")
	default:
		say = append(say, "no router advertisement has been heard")
	}
	if t.choice.current.Remembered {
		say = append(say, fmt.Sprintf("%v is remembered from before the restart or reload and not confirmed yet", t.choice.current.Prefix))
	}
	if t.choice.held.IsValid() {
		say = append(say, fmt.Sprintf("%v waits, because the prefix has changed too often", t.choice.held))
	}
	switch {
	case o.DNS && (t.inquiry.want.ok || t.inquiry.paused && !carried):
		switch {
		case carried && (len(t.doubts) > 0 || t.inquiry.besides):
			say = append(say, "DNS is asked too, because their NAT64 does not answer")
		case carried && t.selection().carriedBy(selection.retired):
			say = append(say, "DNS is asked too, because their router is no default router any more")
		case carried && t.selection().carriedBy(selection.late):
			say = append(say, "DNS is asked too, because its prefix was in use before their router appeared")
		case carried:
			say = append(say, "DNS is asked too, because their router no longer mentions the prefix")
		}
		say = append(say, "DNS: "+t.inquiry.words(now))
	case !o.DNS && !carried:
		say = append(say, "DNS is not asked (discovery.sources)")
	}
	return strings.Join(say, "; ")
}
