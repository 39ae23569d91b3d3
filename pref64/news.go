package pref64

import (
	"fmt"
	"time"
)

// What is not a change of prefix is announced newsBurst times at once and then
// once every newsInterval, so that a flood of advertisements is no flood of
// work.
const (
	newsBurst    = 5
	newsInterval = time.Second
)

// news keeps track of what is worth an announcement besides a change of prefix:
// the MTU and, if all is wanted, everything else in a Snapshot except times.
type news struct {
	all    bool
	digest string
	at     time.Time // when it will be announced; zero: there is nothing to say

	// spent is where the announcements made so far have pushed the time, as
	// Tracker.adopted.
	spent time.Time
}

// announce tells the owner that there is news, unless it has just been told.
func (t *Tracker) announce(now time.Time, told bool) {
	n := &t.news
	if d := t.digest(); d != n.digest {
		n.digest = d
		n.at = later(now, n.spent.Add(-(newsBurst-1)*newsInterval))
	}
	switch {
	case told:
		n.at = time.Time{}
	case !n.at.IsZero() && !now.Before(n.at):
		n.at = time.Time{}
		n.spent = later(n.spent, now).Add(newsInterval)
		t.notify()
	}
}

// digest differs if there is something new.
func (t *Tracker) digest() string {
	b := fmt.Appendln(nil, t.mtu)
	if !t.news.all {
		return string(b)
	}
	for _, o := range t.candidates {
		b = fmt.Appendln(b, o.Prefix, o.Origin, o.Router, o.Doubted, t.speakers(o))
	}
	b = fmt.Appendln(b, t.slaac(time.Now()), t.excuses(), t.renewal.lost.prefix, t.renewal.kept >= keptOften)
	q := &t.inquiry
	b = fmt.Appendln(b, t.link.heardRA, t.link.heardDefault, t.held, t.advertised(), q.want.ok, q.paused, q.last.kind, q.last.server, q.last.why)
	return string(b)
}
