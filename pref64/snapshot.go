package pref64

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Snapshot is everything that a Finder knows.
type Snapshot struct {
	Candidates []Observation  // usable, each prefix once, the one in use first; none if none is in use
	Routers    [][]netip.Addr // who advertises each of them, the one whose word is followed first
	HeardRA    bool           // a whole, valid Router Advertisement of a default router since Attached
	OnLink     []OnLink       // advertised for addresses (A=1) since Attached, and still valid
	Excused    []netip.Prefix // of Tracker.SetOwn that do not count against the candidates
	MTU        int            // as Tracker.MTU
	Resolvers  []netip.Addr   // that are asked, in this order; advertised ones first, without zone
	Discovery  string         // how PREF64 is looked for at present, in words
	Ignored    []Ignored      // as Tracker.Ignored
}

// Snapshot returns what is known now.
func (f *Finder) Snapshot() Snapshot {
	f.mu.Lock()
	listening := f.listening
	f.mu.Unlock()

	t := f.Tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	s := Snapshot{
		Candidates: slices.Clone(t.candidates),
		HeardRA:    t.link.heardDefault,
		MTU:        t.mtu,
		Resolvers:  f.options.Servers,
		Ignored:    slices.Clone(t.ignored.recent),
		Discovery:  f.words(listening, now),
	}
	for _, o := range s.Candidates {
		s.Routers = append(s.Routers, t.speakers(o))
	}
	s.OnLink, s.Excused = t.slaac(now), t.excuses()
	if len(s.Resolvers) == 0 {
		s.Resolvers = slices.Concat(t.advertised(), t.inquiry.resolvers)
	}
	s.Resolvers, _ = choose(s.Resolvers)
	return s
}

// speakers returns the routers that advertise the prefix of o at present, the
// one whose word is followed first.
func (t *Tracker) speakers(o Observation) (all []netip.Addr) {
	if o.Origin != RA {
		return nil
	}
	all = []netip.Addr{o.Router}
	for _, e := range t.entries {
		if e.Prefix == o.Prefix && e.Origin == RA && !e.stale && e.byRouter != o.Neighbour && !e.mention.superseded && e.Router != o.Router {
			all = append(all, e.Router)
		}
	}
	return all
}

// words says how PREF64 is looked for at present.
func (f *Finder) words(listening error, now time.Time) string {
	t := f.Tracker
	if len(f.options.Static) > 0 {
		return "configured; nothing is looked for"
	}
	var say []string
	switch {
	case f.source == nil && f.asker == nil:
		return "nothing is configured and nothing is looked for"
	case !f.options.RA:
	case listening != nil:
		say = append(say, "router advertisements cannot be listened to: "+listening.Error())
	case t.carried():
		say = append(say, "router advertisements")
		if wrong := t.renewal.words(t.current); wrong != "" {
			say = append(say, wrong)
		}
	case t.renewal.lost.prefix.IsValid():
		say = append(say, t.renewal.words(t.current))
	case t.link.heardRA && t.link.notCarried.IsZero():
		say = append(say, "no default router has been heard")
	case t.link.heardRA || !t.link.notCarried.IsZero() || len(t.advertised()) > 0:
		say = append(say, "router advertisements carry no PREF64")
	default:
		say = append(say, "no router advertisement has been heard")
	}
	if t.held.IsValid() {
		say = append(say, fmt.Sprintf("%v waits, because the prefix has changed too often", t.held))
	}
	switch {
	case f.asker != nil && (t.inquiry.want.ok || t.inquiry.paused && !t.carried()):
		switch {
		case t.carried() && (len(t.doubts) > 0 || t.inquiry.besides):
			say = append(say, "DNS is asked too, because their NAT64 does not answer")
		case t.carried():
			say = append(say, "DNS is asked too, because their router no longer mentions the prefix")
		}
		say = append(say, "DNS: "+t.inquiry.words(now))
	case f.asker == nil && !t.carried():
		say = append(say, "DNS is not asked (discovery.sources)")
	}
	return strings.Join(say, "; ")
}

// words says how DNS discovery stands, after "DNS: ".
func (q *inquiry) words(now time.Time) string {
	again := ""
	if in := q.next.Sub(now).Round(time.Second); in > 0 {
		again = fmt.Sprintf("again in %v", in)
	}
	switch {
	case q.paused:
		return "not asked, as there is no use for an answer at present"
	case q.last.kind == notAsked && again != "":
		return "asked " + strings.Replace(again, "again ", "", 1)
	case q.last.kind == notAsked:
		return "being asked"
	}
	again = cmp.Or(again, "being asked again")
	switch q.last.kind {
	case found:
		return fmt.Sprintf("from %v, %s", q.last.server, again)
	case negativeAnswer:
		if q.last.useless != None {
			return fmt.Sprintf("%v gives addresses that no DNS64 has made (%v, %s)", q.last.server, q.last.useless, again)
		}
		return fmt.Sprintf("%v says that there is no NAT64 (negative answer, %s)", q.last.server, again)
	case nobody:
		return fmt.Sprintf("nobody to ask: %s (%s)", q.last.why, again)
	default:
		return fmt.Sprintf("%s (%s)", q.last.why, again)
	}
}
