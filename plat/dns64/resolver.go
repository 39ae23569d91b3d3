package dns64

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	// maxExchanges bounds the queries to upstream resolvers that wait for an
	// answer, and so the sockets.
	maxExchanges = 1024
	// slowAAAA is after which time the A records are asked for as well (RFC
	// 6147 section 5.1.8 allows both in parallel).
	slowAAAA = 1 * time.Second
)

var errTooManyExchanges = errors.New("too many queries to upstream resolvers are waiting")

// resolver looks records up: in local zones, in the cache, upstream. Safe for
// concurrent use.
type resolver struct {
	running  context.Context // ends the exchanges with upstream resolvers
	zones    zones
	cache    *cache
	upstream *upstream
	asked    singleflight.Group
	slots    chan struct{} // of maxExchanges
}

// lookup returns the response to a question, as [Lookup] describes it.
func (r *resolver) lookup(ctx context.Context, k key) (*dns.Msg, error) {
	if k.qclass == dns.ClassINET {
		if m := r.zones.lookup(k.name, k.qtype); m != nil {
			return m, nil
		}
	}
	if m := r.cache.get(k); m != nil {
		return m, nil
	}
	if k.qtype == dns.TypeAAAA && k.qclass == dns.ClassINET {
		a := k
		a.qtype = dns.TypeA
		slow := time.AfterFunc(slowAAAA, func() { r.fetch(ctx, a) })
		defer slow.Stop()
	}
	m, err := r.fetch(ctx, k)
	if err != nil {
		return nil, err
	}
	return m.Copy(), nil
}

// fetch asks upstream. Equal questions at the same time are asked once, and do
// not end with the query that came first, but with the resolver. The response is
// shared.
func (r *resolver) fetch(ctx context.Context, k key) (*dns.Msg, error) {
	result := r.asked.DoChan(fmt.Sprintf("%+v", k), func() (any, error) {
		select {
		case r.slots <- struct{}{}:
			defer func() { <-r.slots }()
		default:
			return nil, errTooManyExchanges
		}
		m, err := r.upstream.exchange(r.running, k.query())
		if m == nil {
			// RFC 9520 section 3.1: that nobody answers is remembered as well.
			failed := new(dns.Msg)
			failed.Rcode = dns.RcodeServerFailure
			r.cache.put(k, failed)
			return nil, err
		}
		m = cleaned(m)
		r.cache.put(k, m.Copy())
		return m, nil
	})
	select {
	case a := <-result:
		if a.Err != nil {
			return nil, a.Err
		}
		return a.Val.(*dns.Msg), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// query is the message that asks for k.
func (k key) query() *dns.Msg {
	q := new(dns.Msg)
	q.Question = []dns.Question{{Name: k.name, Qtype: k.qtype, Qclass: k.qclass}}
	q.RecursionDesired, q.CheckingDisabled, q.AuthenticatedData = true, k.cd, k.ad
	q.SetEdns0(udpSize, k.do)
	return q
}

// cleaned takes from a response what belongs to the exchange with its sender:
// OPT and TSIG records, the AA bit, RCODEs that only EDNS can carry.
func cleaned(m *dns.Msg) *dns.Msg {
	var extra []dns.RR
	for _, rr := range m.Extra {
		switch rr.Header().Rrtype {
		case dns.TypeOPT, dns.TypeTSIG, dns.TypeSIG:
		default:
			extra = append(extra, rr)
		}
	}
	m.Extra = extra
	m.Authoritative = false
	if m.Rcode > 15 {
		m.Rcode = dns.RcodeServerFailure
	}
	return m
}
