package pref64

import (
	"fmt"
	"time"
)

// newsInterval is the least time between two announcements of what is not a
// change of prefix or MTU, so that a flood of advertisements is no flood of work.
const newsInterval = time.Second

// news keeps track of what is worth an announcement besides a change of prefix
// or MTU: everything in a Snapshot except times.
type news struct {
	wanted bool
	digest string
	said   time.Time // when it was last announced
	at     time.Time // when it will be; zero: there is nothing to say
}

// announce tells the owner of a Finder that the Snapshot has changed.
func (t *Tracker) announce(now time.Time) {
	n := &t.news
	if !n.wanted {
		return
	}
	if d := t.digest(); d != n.digest {
		n.digest = d
		n.at = later(now, n.said.Add(newsInterval))
	}
	if !n.at.IsZero() && !now.Before(n.at) {
		n.said, n.at = now, time.Time{}
		t.notify()
	}
}

// digest differs if there is something new.
func (t *Tracker) digest() string {
	var b []byte
	for _, o := range t.candidates {
		b = fmt.Appendln(b, o.Prefix, o.Origin, o.Router, o.Doubted)
	}
	for _, o := range t.link.onLink {
		b = fmt.Appendln(b, o.prefix)
	}
	q := &t.inquiry
	b = fmt.Appendln(b, t.link.heardRA, t.held, t.advertised(), q.want.ok, q.paused, q.last.kind, q.last.server, q.last.why)
	return string(b)
}
