package dns64

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"tnat64d/siit"
)

// Rules are what a DNS64 synthesizes with. It holds no state and does no I/O.
type Rules struct {
	prefixes []prefix
	reverse  []prefix // prefixes and the well-known one
	exclude  []netip.Prefix
}

// prefix is a translation prefix with its length in bits.
type prefix struct {
	siit.Prefix
	bits int
}

// maxPrefixes bounds how much longer an answer gets.
const maxPrefixes = 8

// NewRules prepares prefixes, of which each makes an AAAA record for every A
// record, in this order, and exclude, networks whose AAAA records do not count
// (RFC 6147 section 5.1.4).
func NewRules(prefixes, exclude []netip.Prefix) (*Rules, error) {
	switch {
	case len(prefixes) == 0:
		return nil, errors.New("DNS64 needs a prefix")
	case len(prefixes) > maxPrefixes:
		return nil, fmt.Errorf("%d prefixes, at most %d", len(prefixes), maxPrefixes)
	}
	r := &Rules{exclude: slices.Clone(exclude)}
	for _, p := range prefixes {
		prepared, err := siit.NewPrefix(p)
		if err != nil {
			return nil, err
		}
		r.prefixes = append(r.prefixes, prefix{prepared, p.Bits()})
	}
	// RFC 6147 section 5.3.1: a PTR is looked for in the configured prefixes and
	// in the well-known one.
	r.reverse = r.prefixes
	if wkp := siit.WellKnownPrefix(); !slices.Contains(prefixes, wkp) {
		prepared, err := siit.NewPrefix(wkp)
		if err != nil {
			return nil, err
		}
		r.reverse = append(slices.Clone(r.prefixes), prefix{prepared, wkp.Bits()})
	}
	return r, nil
}

// Lookup returns the response to a question of class IN, asked with the DO and
// CD bits of the client's query. An error means that no response came. The
// response is the caller's own, without OPT record, and its AA bit is set only
// for local zones.
type Lookup func(name string, qtype uint16) (*dns.Msg, error)

// Answer returns the reply to query, which has one question of class IN, and
// what became of it. The reply has no OPT record and is not truncated.
func (r *Rules) Answer(query *dns.Msg, lookup Lookup) (*dns.Msg, Outcome) {
	q := query.Question[0]
	if reply, ok := r.ipv4only(query); ok {
		return reply, WellKnown
	}
	// RFC 6147 section 5.5 case 3: with CD and DO set, "MUST NOT perform
	// synthesis. It MUST return the data to the query initiator, just like a
	// regular recursive resolver". The client validates and synthesizes itself.
	if !(query.CheckingDisabled && wantsDNSSEC(query)) {
		switch q.Qtype {
		case dns.TypeAAAA:
			return r.aaaa(query, lookup)
		case dns.TypePTR:
			if a, ok := addressOf(q.Name); ok {
				if p, ok := r.prefixOf(a); ok {
					return r.ptr(query, a, p, lookup)
				}
			}
		}
	}
	// RFC 6147 section 5.3.3: "All other RRs MUST be returned unchanged. This
	// includes responses to queries for A RRs."
	m, err := lookup(q.Name, q.Qtype)
	if err != nil {
		return failure(query), Failed
	}
	return passed(query, m), outcomeOf(m)
}

// wantsDNSSEC reports whether the DO bit is set (RFC 3225).
func wantsDNSSEC(query *dns.Msg) bool {
	opt := query.IsEdns0()
	return opt != nil && opt.Do()
}

// reply starts a reply to query. The question is copied from it (RFC 6147
// section 5.4).
func reply(query *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(query)
	m.RecursionAvailable = true
	return m
}

// failure is the reply where there is nothing to base one on.
func failure(query *dns.Msg) *dns.Msg {
	m := reply(query)
	m.Rcode = dns.RcodeServerFailure
	return m
}

// passed is the reply that repeats m. The AD bit goes only to who can tell what
// it means (RFC 6840 section 5.8).
func passed(query, m *dns.Msg) *dns.Msg {
	p := reply(query)
	p.Rcode, p.Authoritative = m.Rcode, m.Authoritative
	p.AuthenticatedData = m.AuthenticatedData && (query.AuthenticatedData || wantsDNSSEC(query))
	p.Answer, p.Ns, p.Extra = m.Answer, m.Ns, m.Extra
	return p
}
