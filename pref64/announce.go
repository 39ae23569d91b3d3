package pref64

import (
	"fmt"
	"time"
)

// What is not a change of prefix is announced newsBurst times at once and then
// once every newsInterval, so that a flood of advertisements does not become a
// flood of work.
const (
	newsBurst    = 5
	newsInterval = time.Second
)

// news keeps track of what is worth an announcement besides a change of
// prefix: the MTU and, if all is wanted, everything else in a Snapshot except
// times.
type news struct {
	all    bool
	digest string
	at     time.Time // of the next announcement; zero: there is nothing to announce
	limit  pace
}

func newNews(all bool, digest string) news {
	return news{all: all, digest: digest, limit: pace{burst: newsBurst, interval: newsInterval}}
}

// announce takes in the digest of the state at now, and reports whether to tell
// the owner, who has just been told anyway if told is true.
func (n *news) announce(digest string, told bool, now time.Time) bool {
	if digest != n.digest {
		n.digest = digest
		n.at = later(now, n.limit.ready())
	}
	switch {
	case told:
		n.at = time.Time{}
	case ended(n.at, now):
		n.at = time.Time{}
		n.limit.take(now)
		return true
	}
	return false
}

// digest returns a text that differs if there is news.
func digest(s *state, now time.Time) string {
	b := fmt.Appendln(nil, s.mtu)
	if !s.news.all {
		return string(b)
	}
	for _, o := range s.choice.candidates {
		b = fmt.Appendln(b, o.Prefix, o.Origin, o.Router, o.Doubted, o.Remembered, s.speakers(o))
	}
	b = fmt.Appendln(b, s.onLink.valid(&s.routers, now), s.excuses(s.choice.candidates), s.renewal.lost.prefix, s.renewal.kept >= keptOften)
	q := &s.inquiry
	b = fmt.Appendln(b, s.link.heard, s.choice.held, s.advertised(), q.want.ok, q.paused, q.last.kind, q.last.server, q.last.why)
	return string(b)
}
