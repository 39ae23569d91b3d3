package pref64

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// DNS is asked when the routers have had their chance: so long after the
	// link was attached if none is heard (the first solicitation is answered
	// within half a second, RFC 4861 section 10, if it was not lost), and so
	// long after the first advertisement without a PREF64, for the other
	// routers that may have one.
	silenceBeforeDNS = 3 * time.Second
	othersBeforeDNS  = time.Second
)

// inquiry is what the Tracker knows about discovery by DNS: whether it is
// wanted, and what came of it.
type inquiry struct {
	enabled bool // DNS is a source
	routers bool // Router Advertisements are too
	paused  bool
	besides bool          // DNS is asked though routers know a prefix
	wake    chan struct{} // sent to after want has changed
	want    want
	servers []netip.Addr // advertised ones, as of want.resolvers

	last      outcome      // on this attachment
	next      time.Time    // when DNS is asked again; zero: it is being asked
	resolvers []netip.Addr // the link's own besides the advertised ones, when last asked
}

// want says whether DNS is to be asked.
type want struct {
	ok         bool
	from       time.Time // but not before this
	attachment int       // changes when the link may be another network
	resolvers  int       // changes when routers advertise other resolvers
}

// outcome is what a round of questions to the resolvers gave.
type outcome struct {
	kind      outcomeKind
	server    netip.Addr     // who gave the prefixes, or was the last to say no
	prefixes  []netip.Prefix // if found, in order
	ttl       time.Duration  // if found or negative, within bounds; 0: a negative answer without one
	no        []netip.Addr   // who said that there is no DNS64
	all       bool           // everybody who was asked said no
	useless   Reason         // if negative: there were addresses, but not of a DNS64
	why       string         // if failed, or there is nobody, in words
	resolvers []netip.Addr   // the link's own besides the advertised ones
	ignored   []Ignored
}

type outcomeKind uint8

const (
	notAsked       outcomeKind = iota
	found                      // there are prefixes
	negativeAnswer             // at least one server says that there are none, and no one that there are
	failed                     // nobody has answered to the point
	nobody                     // there is nobody to ask
)

// pause stops and resumes questions to DNS.
func (t *Tracker) pause(paused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.inquiry.paused == paused {
		return
	}
	t.inquiry.paused = paused
	t.update(time.Now())
}

// AskDNS has DNS asked, if it is a source, though routers advertise a prefix: its
// PLAT does not answer. What it says is a candidate and no more.
func (t *Tracker) AskDNS(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.inquiry.besides == on {
		return
	}
	t.inquiry.besides = on
	t.update(time.Now())
}

// inquire decides whether DNS is to be asked (RFC 9872 section 3.1), and drops
// what it said when a router has taken over.
func (t *Tracker) inquire(now time.Time) {
	carried := t.carried()
	switch {
	case carried:
		t.link.notCarried = time.Time{}
	case t.link.carried:
		t.link.notCarried = now
	}
	t.link.carried = carried

	q := &t.inquiry
	if !q.enabled {
		return
	}
	trusted := !q.besides && slices.ContainsFunc(t.entries, func(e entry) bool {
		return e.Origin == RA && e.byRouter && !e.stale && !e.mention.superseded && t.usable(e) && t.doubted(e.Prefix).IsZero()
	})
	if trusted && t.current.Origin == RA {
		t.entries = slices.DeleteFunc(t.entries, func(e entry) bool { return e.Origin == DNS })
		t.candidates = slices.DeleteFunc(t.candidates, func(o Observation) bool { return o.Origin == DNS })
	}

	w := want{ok: !q.paused && !trusted, attachment: t.link.number, resolvers: q.want.resolvers}
	switch {
	case !q.routers || carried:
		w.from = t.link.since
	case !t.link.notCarried.IsZero():
		w.from = t.link.notCarried.Add(othersBeforeDNS)
	default:
		w.from = t.link.since.Add(silenceBeforeDNS)
	}
	if servers := t.advertised(); !slices.Equal(servers, q.servers) {
		q.servers = servers
		w.resolvers++
	}
	if w.attachment != q.want.attachment {
		q.last, q.next = outcome{}, time.Time{}
	}
	if w != q.want {
		q.want = w
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// awaitsDNS reports whether DNS has not had its chance yet, so that the word of
// a neighbour that is no default router has to wait.
func (t *Tracker) awaitsDNS() bool {
	q := &t.inquiry
	return q.enabled && q.last.kind == notAsked
}

// wanted returns whether DNS is to be asked, and the resolvers that routers
// advertise.
func (t *Tracker) wanted() (want, []netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.inquiry.want
	w.ok = w.ok && !t.closed
	return w, t.inquiry.servers
}

// inquired notes when DNS is asked next; zero: now.
func (t *Tracker) inquired(next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inquiry.next = next
}

// answered takes in what a round of questions gave that was asked for w.
func (t *Tracker) answered(o outcome, w want, ifindex int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	now := time.Now()
	for _, ig := range o.ignored {
		t.ignored.note(ig, now)
	}
	// Meanwhile a router may have said so, or the link may have become another.
	if q := t.inquiry.want; !q.ok || q.attachment != w.attachment {
		return
	}
	t.inquiry.last, t.inquiry.resolvers = o, o.resolvers
	switch o.kind {
	case found:
		t.entries = slices.DeleteFunc(t.entries, func(e entry) bool {
			return e.stale && e.Origin == RA || e.Origin == DNS && !slices.Contains(o.prefixes, e.Prefix)
		})
		for i := range t.entries {
			if t.entries[i].Origin == DNS {
				t.entries[i].Router = o.server
			}
		}
		for _, p := range o.prefixes {
			t.observe(Observation{Prefix: p, Origin: DNS, Router: o.server, Interface: ifindex,
				Expires: now.Add(o.ttl + graceTTL)}, nil, now)
		}
	case negativeAnswer:
		t.entries = slices.DeleteFunc(t.entries, func(e entry) bool {
			return e.Origin == DNS && (o.all || slices.Contains(o.no, e.Router))
		})
	}
	t.update(now)
}
