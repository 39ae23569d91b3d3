package pref64

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxServers = 4 // servers that are asked

	// refreshEarly is how long before the end of the TTL DNS is asked again
	// (RFC 7050 section 3).
	refreshEarly = 10 * time.Second

	// A TTL counts within these bounds. With the lower ones questions are at
	// least a minute apart, whatever the network says. RFC 2308 section 5
	// finds one to three hours sensible for negative answers.
	minTTL         = time.Minute + refreshEarly
	maxTTL         = 24 * time.Hour
	minNegativeTTL = time.Minute
	maxNegativeTTL = 3 * time.Hour

	// A prefix is kept so long beyond its TTL if no server answers: the
	// silence of a resolver that restarts says nothing about the NAT64 (RFC
	// 8767 does so for addresses, for much longer).
	graceTTL = time.Minute

	// The bounds of noAnswer and noTTL.
	firstRetry   = 2 * time.Second
	firstRecheck = 10 * time.Second
	lastRetry    = 5 * time.Minute

	// The least time between the beginnings of two rounds.
	minPause = 2 * time.Second

	resolversTimeout = 2 * time.Second
)

var (
	// noAnswer spaces rounds without a usable answer.
	noAnswer = backoff{firstRetry, lastRetry}
	// noTTL spaces rounds after a negative answer without SOA, which must not
	// be cached (RFC 2308 section 5), and after addresses that no DNS64 made:
	// the DNS64 of a network may come up a little later than the network.
	noTTL = backoff{firstRecheck, lastRetry}
)

// timeouts are the times to wait for an answer. Each is used for one question
// to every server, in the manner of resolv.conf(5).
var timeouts = [...]time.Duration{time.Second, 2 * time.Second}

// asker asks an uplink's own resolvers for PREF64 (RFC 7050, RFC 8880) while
// its Tracker wants it.
type asker struct {
	tracker   *Tracker
	ifindex   int
	name      string                                 // of the interface, for messages
	servers   []netip.Addr                           // if not empty, only these are asked
	resolvers func(ctx context.Context) []netip.Addr // may be nil
	dial      dialFunc
	again     chan struct{} // ask again now, if DNS is asked at all
}

// schedule is when to ask.
type schedule struct {
	want     want      // what it was made for
	due      time.Time // not before
	last     time.Time // when the latest round began in which a server was asked
	failures int       // rounds in a row without an answer
	negative int       // rounds in a row with a negative answer without TTL
	found    bool      // the latest round found a prefix
	hurry    bool      // something changed during the round
}

// soon moves the next round to now, or as soon after as the distance from the
// latest allows.
func (s *schedule) soon(now time.Time) {
	s.failures, s.negative = 0, 0
	s.due = now
	if !s.last.IsZero() {
		s.due = later(now, s.last.Add(minPause))
	}
}

// over takes in the outcome of the round that began at the given time.
func (s *schedule) over(o outcome, began, now time.Time) {
	if o.kind != nobody {
		s.last = began
	}
	s.found = o.kind == found
	switch {
	case o.kind == found:
		s.failures, s.negative = 0, 0
		s.due = now.Add(o.ttl - refreshEarly)
	case o.kind == negativeAnswer && o.ttl > 0:
		s.failures, s.negative = 0, 0
		s.due = now.Add(o.ttl)
	case o.kind == negativeAnswer:
		s.failures = 0
		s.negative++
		s.due = now.Add(noTTL.after(s.negative))
	default:
		s.failures++
		s.due = now.Add(noAnswer.after(s.failures))
	}
	if s.hurry {
		s.soon(now)
	}
}

// run asks whenever a round is due, until ctx ends.
func (a *asker) run(ctx context.Context) {
	var (
		s       schedule
		timer   = time.NewTimer(0)
		results = make(chan outcome)

		cancel  context.CancelFunc // of the round that is going on; nil: none is
		began   time.Time
		asked   want // what it is for
		aborted bool // it is no longer wanted
	)
	defer timer.Stop()
	for {
		now := time.Now()
		w, advertised := a.wanted()
		switch {
		case w.attachment != s.want.attachment:
			s = schedule{}
		case w.resolvers != s.want.resolvers && cancel != nil:
			s.hurry = true
		case w.resolvers != s.want.resolvers, w.ok && !s.want.ok && s.found:
			s.soon(now)
		}
		s.want = w
		if cancel != nil && (!w.ok || w.attachment != asked.attachment) {
			cancel()
			aborted = true
		}
		timer.Stop()
		if w.ok && cancel == nil {
			at := later(w.from, s.due)
			a.setNext(at)
			timer.Reset(at.Sub(now))
		}
		select {
		case <-ctx.Done():
			if cancel != nil {
				cancel()
				<-results
			}
			return
		case <-a.tracker.state.inquiry.wake:
		case <-a.again:
			if cancel != nil {
				s.hurry = true
			} else {
				s.soon(time.Now())
			}
		case <-timer.C:
			var round context.Context
			round, cancel = context.WithCancel(ctx)
			began, asked, aborted, s.hurry = time.Now(), w, false, false
			a.setNext(time.Time{})
			go func() { results <- a.round(round, advertised) }()
		case o := <-results:
			cancel()
			cancel = nil
			switch {
			case aborted && s.want.attachment != asked.attachment:
			case aborted:
				s.last = began
				s.soon(time.Now())
			default:
				s.over(o, began, time.Now())
				a.tracker.event(func(s *state, now time.Time) { s.answered(o, asked, a.ifindex, now) })
			}
		}
	}
}

// wanted returns whether DNS is to be asked, and the resolvers that routers
// advertise.
func (a *asker) wanted() (want, []netip.Addr) {
	a.tracker.mu.Lock()
	defer a.tracker.mu.Unlock()
	return a.tracker.state.inquiry.want, a.tracker.state.inquiry.servers
}

// setNext notes when DNS is asked next; zero: now.
func (a *asker) setNext(at time.Time) {
	a.tracker.mu.Lock()
	defer a.tracker.mu.Unlock()
	a.tracker.state.inquiry.next = at
}

func (a *asker) onlyNeighbours() []netip.Addr {
	a.tracker.mu.Lock()
	defer a.tracker.mu.Unlock()
	return a.tracker.state.resolvers.onlyNeighbours(&a.tracker.state.routers)
}

// list returns the servers to ask, and the link's own resolvers besides the
// advertised ones. why says why there is no server to ask.
func (a *asker) list(ctx context.Context, advertised []netip.Addr) (servers, own []netip.Addr, why string) {
	all := slices.Clone(a.servers)
	if len(all) == 0 {
		if a.resolvers != nil {
			ctx, cancel := context.WithTimeout(ctx, resolversTimeout)
			own = a.resolvers(ctx)
			cancel()
			forged := a.onlyNeighbours()
			own = slices.DeleteFunc(slices.Clone(own), func(s netip.Addr) bool { return slices.Contains(forged, s.WithZone("")) })
		}
		all = slices.Concat(advertised, own)
	}
	servers, cannot := choose(all)
	switch {
	case len(servers) > 0:
	case len(cannot) == 0:
		why = fmt.Sprintf("no resolver of %s is known", a.name)
	default:
		why = strings.Join(cannot, ", ")
	}
	return servers, own, why
}

// choose returns those of all that are asked, without zones, each once. cannot
// says why others are not.
func choose(all []netip.Addr) (servers []netip.Addr, cannot []string) {
	for _, s := range all {
		s = s.WithZone("")
		switch because := cannotAsk(s); {
		case slices.Contains(servers, s):
		case because == "" && len(servers) < maxServers:
			servers = append(servers, s)
		case because != "" && len(cannot) < maxServers:
			cannot = append(cannot, fmt.Sprintf("%v %s", s, because))
		}
	}
	return servers, cannot
}

// round asks one server after the other until one knows a prefix. A negative
// answer counts only if no server knows one: a network may have resolvers with
// and without DNS64.
func (a *asker) round(ctx context.Context, advertised []netip.Addr) outcome {
	servers, own, why := a.list(ctx, advertised)
	o := outcome{kind: failed, resolvers: own}
	if len(servers) == 0 {
		o.kind, o.why = nobody, why
		return o
	}
	problems := make([]string, len(servers))
	for _, timeout := range timeouts {
		for i, server := range servers {
			if slices.Contains(o.no, server) || ctx.Err() != nil {
				continue
			}
			ans, ignored, err := a.dial.ask(ctx, server, timeout)
			for _, reason := range ignored {
				reason.Router = server
				o.ignored = append(o.ignored, reason)
			}
			switch {
			case err != nil:
				problems[i] = fmt.Sprintf("%v %v", server, err)
			case len(ans.prefixes) > 0:
				// The Tracker would not remember more of them.
				o.kind, o.server, o.prefixes = found, server, ans.prefixes[:min(len(ans.prefixes), maxPerRouter)]
				o.ttl = min(max(ans.ttl, minTTL), maxTTL)
				return o
			case ans.rcode != dnsmessage.RCodeSuccess:
				problems[i] = fmt.Sprintf("%v answers %s", server, rcode(ans.rcode))
			default:
				var ttl time.Duration // none
				if ans.negative && ans.ttl > 0 {
					ttl = min(max(ans.ttl, minNegativeTTL), maxNegativeTTL)
				}
				if len(o.no) == 0 || ttl < o.ttl {
					o.ttl = ttl
				}
				o.kind, o.server, o.useless = negativeAnswer, server, ans.ignored
				o.no = append(o.no, server)
				problems[i] = ""
			}
		}
	}
	o.all = len(o.no) == len(servers)
	o.why = strings.Join(slices.DeleteFunc(problems, func(s string) bool { return s == "" }), ", ")
	return o
}

// rcode is the usual name of a response code.
func rcode(c dnsmessage.RCode) string {
	switch c {
	case dnsmessage.RCodeFormatError:
		return "FORMERR"
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeNotImplemented:
		return "NOTIMP"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	}
	return fmt.Sprintf("error %d", c)
}
