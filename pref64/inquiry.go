package pref64

import (
	"fmt"
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

// inquiry is the state of discovery by DNS: whether it is wanted, and what
// came of it.
type inquiry struct {
	enabled bool // DNS is a source
	routers bool // Router Advertisements are too
	paused  bool
	besides bool          // DNS is asked though routers advertise a prefix
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

// outcome is the result of one round of questions to the resolvers.
type outcome struct {
	kind      outcomeKind
	server    netip.Addr     // the one with the prefixes, or the last with a negative answer
	prefixes  []netip.Prefix // if found, in order
	ttl       time.Duration  // if found or negative, within bounds; 0: a negative answer without one
	no        []netip.Addr   // servers with a negative answer
	all       bool           // all servers have answered so
	useless   Reason         // if negative: why the addresses of the answer are not those of a DNS64
	why       string         // if failed, or there is no server, in words
	resolvers []netip.Addr   // the link's own besides the advertised ones
	ignored   []Ignored
}

type outcomeKind uint8

const (
	notAsked       outcomeKind = iota
	found                      // there are prefixes
	negativeAnswer             // at least one server says that there are none, and no one that there are
	failed                     // no server has given a usable answer
	nobody                     // there is no server to ask
)

// awaited reports whether DNS is a source and has not been asked yet.
func (q *inquiry) awaited() bool { return q.enabled && q.last.kind == notAsked }

// decide decides whether DNS is to be asked (RFC 9872 section 3.1) on the link
// a. trusted says that routers advertise a prefix that needs no second source,
// servers are the resolvers that they advertise.
func (q *inquiry) decide(a attachment, trusted bool, servers []netip.Addr) {
	w := want{ok: !q.paused && !trusted, attachment: a.number, resolvers: q.want.resolvers}
	switch {
	case !q.routers || a.pref64 == carried:
		w.from = a.since
	case a.pref64 == notCarried:
		w.from = a.without.Add(othersBeforeDNS)
	default:
		w.from = a.since.Add(silenceBeforeDNS)
	}
	if !slices.Equal(servers, q.servers) {
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

// answered takes in the outcome of a round that was asked for w, and reports
// whether it still counts: meanwhile a router may have advertised a prefix, or
// the link may have become another.
func (q *inquiry) answered(o outcome, w want) bool {
	if !q.want.ok || q.want.attachment != w.attachment {
		return false
	}
	q.last, q.resolvers = o, o.resolvers
	return true
}

// words says how discovery by DNS stands, after "DNS: ".
func (q *inquiry) words(now time.Time) string {
	in := q.next.Sub(now).Round(time.Second)
	switch {
	case q.paused:
		return "not asked, because no answer is needed at present"
	case q.last.kind == notAsked && in > 0:
		return fmt.Sprintf("asked in %v", in)
	case q.last.kind == notAsked:
		return "being asked"
	}
	again := "being asked again"
	if in > 0 {
		again = fmt.Sprintf("again in %v", in)
	}
	switch q.last.kind {
	case found:
		return fmt.Sprintf("from %v, %s", q.last.server, again)
	case negativeAnswer:
		if q.last.useless != None {
			return fmt.Sprintf("%v returns addresses that no DNS64 made (%v, %s)", q.last.server, q.last.useless, again)
		}
		return fmt.Sprintf("%v says that there is no NAT64 (negative answer, %s)", q.last.server, again)
	case nobody:
		return fmt.Sprintf("no resolver to ask: %s (%s)", q.last.why, again)
	default:
		return fmt.Sprintf("%s (%s)", q.last.why, again)
	}
}
