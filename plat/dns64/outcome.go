package dns64

import "github.com/miekg/dns"

// Outcome is the result of a query.
type Outcome uint8

const (
	// Passed: repeated as the upstream resolver, or a local zone, had it.
	Passed Outcome = iota
	// Synthesized: AAAA records were made of A records.
	Synthesized
	// Excluded: AAAA records that do not count were left out.
	Excluded
	// Reverse: a PTR query was led to in-addr.arpa.
	Reverse
	// WellKnown: ipv4only.arpa.
	WellKnown
	// NoData: the name has no such records.
	NoData
	// NameError: there is no such name.
	NameError
	// Failed: no upstream resolver gave an answer, or it was an error.
	Failed

	// NotAClient: the source may not use this DNS64.
	NotAClient
	// RateLimited: the client sends too many queries in a second.
	RateLimited
	// TooManyPending: too many queries wait for an answer.
	TooManyPending
	// TooManyConnections: too many TCP connections are open.
	TooManyConnections
	// Malformed: not a DNS query, or with other than one question.
	Malformed
	// NotImplemented: another operation than a query.
	NotImplemented
	// Refused: zone transfers, and queries that do not want recursion.
	Refused
	// BadVersion: an EDNS version other than 0.
	BadVersion

	outcomes
)

var outcomeWords = [outcomes]string{
	"passed", "synthesized", "excluded", "reverse", "well-known", "no-data", "name-error", "failed",
	"not-a-client", "rate-limited", "too-many-pending", "too-many-connections", "malformed", "not-implemented", "refused", "bad-version",
}

// String returns the name of the counter.
func (o Outcome) String() string { return outcomeWords[o] }

// Outcomes lists all of them, in the order of their values.
func Outcomes() []Outcome {
	all := make([]Outcome, outcomes)
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// outcomeOf is that of a response that is passed on.
func outcomeOf(m *dns.Msg) Outcome {
	switch {
	case m.Rcode == dns.RcodeNameError:
		return NameError
	case m.Rcode != dns.RcodeSuccess:
		return Failed
	case len(m.Answer) == 0:
		return NoData
	}
	return Passed
}
