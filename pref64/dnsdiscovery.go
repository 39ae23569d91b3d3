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
	maxServers       = 4 // servers that are asked
	resolversTimeout = 2 * time.Second
)

// timeouts are the times to wait for an answer. Each is used for one question
// to every server, in the manner of resolv.conf(5).
var timeouts = [...]time.Duration{time.Second, 2 * time.Second}

// dnsDiscovery asks an uplink's own resolvers for PREF64 (RFC 7050, RFC 8880) while
// its Tracker wants it.
type dnsDiscovery struct {
	tracker   *Tracker
	ifindex   int
	name      string                                 // of the interface, for messages
	servers   []netip.Addr                           // if not empty, only these are asked
	resolvers func(ctx context.Context) []netip.Addr // may be nil
	dial      dialFunc
	again     chan struct{} // ask again now, if DNS is asked at all
}

// run asks whenever a round is due, until ctx ends.
func (d *dnsDiscovery) run(ctx context.Context) {
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
		w := d.wanted()
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
			d.setNext(at)
			timer.Reset(at.Sub(now))
		}
		select {
		case <-ctx.Done():
			if cancel != nil {
				cancel()
				<-results
			}
			return
		case <-d.tracker.state.inquiry.wake:
		case <-d.again:
			if cancel != nil {
				s.hurry = true
			} else {
				s.soon(time.Now())
			}
		case <-timer.C:
			var round context.Context
			round, cancel = context.WithCancel(ctx)
			began, asked, aborted, s.hurry = time.Now(), w, false, false
			d.setNext(time.Time{})
			go func() { results <- d.round(round) }()
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
				d.tracker.event(func(s *state, now time.Time) { s.answered(o, asked, d.ifindex, now) })
			}
		}
	}
}

// wanted returns whether DNS is to be asked.
func (d *dnsDiscovery) wanted() want {
	d.tracker.mu.Lock()
	defer d.tracker.mu.Unlock()
	return d.tracker.state.inquiry.want
}

// setNext notes when DNS is asked next; zero: now.
func (d *dnsDiscovery) setNext(at time.Time) {
	d.tracker.mu.Lock()
	defer d.tracker.mu.Unlock()
	d.tracker.state.inquiry.next = at
}

// order returns the servers to ask, own being the link's own.
func (d *dnsDiscovery) order(own []netip.Addr) []netip.Addr {
	d.tracker.mu.Lock()
	defer d.tracker.mu.Unlock()
	return d.tracker.state.resolvers.order(own, &d.tracker.state.routers)
}

// list returns the servers to ask, and the link's own resolvers besides the
// advertised ones. why says why there is no server to ask.
func (d *dnsDiscovery) list(ctx context.Context) (servers, own []netip.Addr, why string) {
	all := slices.Clone(d.servers)
	if len(all) == 0 {
		if d.resolvers != nil {
			ctx, cancel := context.WithTimeout(ctx, resolversTimeout)
			own = d.resolvers(ctx)
			cancel()
		}
		all = d.order(own)
	}
	servers, cannot := choose(all)
	switch {
	case len(servers) > 0:
	case len(cannot) == 0:
		why = fmt.Sprintf("no resolver of %s is known", d.name)
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
func (d *dnsDiscovery) round(ctx context.Context) outcome {
	servers, own, why := d.list(ctx)
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
			ans, ignored, err := d.dial.ask(ctx, server, timeout)
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
				o.ttl = ans.lifetime()
				return o
			case ans.rcode != dnsmessage.RCodeSuccess:
				problems[i] = fmt.Sprintf("%v answers %s", server, rcode(ans.rcode))
			default:
				if ttl := ans.negativeLifetime(); len(o.no) == 0 || ttl < o.ttl {
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
