package dns64

import (
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// aaaa answers a query for AAAA records (RFC 6147 section 5.1).
func (r *Rules) aaaa(query *dns.Msg, lookup Lookup) (*dns.Msg, Outcome) {
	name := query.Question[0].Name
	first, err := chase(name, dns.TypeAAAA, lookup)
	if err != nil {
		// Section 5.1.3: no answer before the timeout "is treated as RCODE=2
		// (Server failure)".
		first = &chain{last: &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeServerFailure}}}
	}
	switch first.last.Rcode {
	case dns.RcodeNameError:
		// Section 5.1.2: "A result with RCODE=3 (Name Error) is handled
		// according to normal DNS operation".
		return passed(query, first.message()), NameError
	case dns.RcodeSuccess:
		usable := slices.DeleteFunc(slices.Clone(first.records), r.excluded)
		switch {
		case len(usable) == 0: // as if the answer were empty (section 5.1.4)
		case len(usable) == len(first.records):
			// Section 5.1.1: "the result is returned to the requesting client
			// as per normal DNS semantics".
			return passed(query, first.message()), Passed
		default:
			// Section 5.1.4: "build an answer section for a response including
			// only the AAAA record(s) that do not contain any of the addresses
			// inside the excluded ranges". A signature over the whole set would
			// be bogus.
			m := passed(query, first.message())
			m.Answer = append(slices.Clone(first.links), usable...)
			m.AuthenticatedData = false
			return m, Excluded
		}
	}
	// Section 5.1.2: "Any other RCODE is treated as though the RCODE were 0 and
	// the answer section were empty." Section 5.1.6: "the DNS64 attempts to
	// retrieve A records for the name in question".
	second, err := chase(name, dns.TypeA, lookup)
	if err != nil {
		return failure(query), Failed // sections 5.1.6 and 5.1.3
	}
	if second.last.Rcode != dns.RcodeSuccess {
		// Section 5.1.6: "the empty result or error is used as the basis for the
		// answer returned to the querying client".
		return passed(query, second.message()), outcomeOf(second.last)
	}
	made := r.synthesize(second.records, ttlLimit(first))
	if len(made) == 0 {
		// Section 5.4: "If there is an empty answer, then the DNS64 responds to
		// the original querying client with the answer the DNS64 received to
		// the original (initiator's) query." Where that was an error or had
		// excluded records only, the second one is the empty answer.
		basis := first
		if first.last.Rcode != dns.RcodeSuccess {
			basis = second
		}
		m := passed(query, basis.message())
		m.Answer = slices.Clone(basis.links)
		if len(basis.records) > 0 {
			m.AuthenticatedData = false
		}
		return m, NoData
	}
	// Section 5.4: the answer section has the synthetic records, with "any
	// chains of CNAME or DNAME RRs" (section 5.1.5), and "The authority and
	// additional sections are copied from the response to the final query that
	// the DNS64 performed". Section 5.3.2: "The DNS64 MUST pass the additional
	// section unchanged."
	m := passed(query, second.message())
	m.Answer = append(slices.Clone(second.links), made...)
	// Section 5.5 case 2: with DO set, AD may be set if the negative response
	// and the A records have been validated. In case 1 it is not.
	m.AuthenticatedData = wantsDNSSEC(query) && first.authentic && second.authentic && len(first.records) == 0
	return m, Synthesized
}

// excluded reports whether rr is an AAAA record that does not count (RFC 6147
// section 5.1.4).
func (r *Rules) excluded(rr dns.RR) bool {
	aaaa, ok := rr.(*dns.AAAA)
	if !ok {
		return false
	}
	a, ok := netip.AddrFromSlice(aaaa.AAAA)
	if !ok {
		return true
	}
	if a.Is4() { // how package net writes ::ffff:0:0/96
		a = netip.AddrFrom16(a.As16())
	}
	return slices.ContainsFunc(r.exclude, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ttlWithoutSOA is the limit "if the SOA RR was not delivered with the negative
// response to the AAAA query", in seconds (RFC 6147 section 5.1.7).
const ttlWithoutSOA = 600

// ttlLimit returns the limit on the TTL of synthetic records in seconds: that
// of the SOA record of the negative response, which is also limited by its
// MINIMUM field (RFC 2308 section 3).
func ttlLimit(negative *chain) uint32 {
	if negative.last.Rcode != dns.RcodeSuccess || len(negative.records) > 0 {
		return ttlWithoutSOA
	}
	for _, rr := range negative.last.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(soa.Hdr.Ttl, soa.Minttl)
		}
	}
	return ttlWithoutSOA
}

// synthesize makes the AAAA records of A records, each prefix in turn (RFC 6147
// section 5.1.7). The TTL is that of the A records or limit, whichever is
// shorter.
func (r *Rules) synthesize(records []dns.RR, limit uint32) []dns.RR {
	var made []dns.RR
	seen := map[netip.Addr]bool{}
	for _, rr := range records {
		if a, ok := rr.(*dns.A); ok {
			limit = min(limit, a.Hdr.Ttl)
		}
	}
	for _, p := range r.prefixes {
		for _, rr := range records {
			record, ok := rr.(*dns.A)
			if !ok {
				continue
			}
			// "check each A RR against configured IPv4 address ranges": what no
			// NAT64 can reach gets no address.
			v4, ok := netip.AddrFromSlice(record.A.To4())
			if !ok || unreachable(v4) {
				continue
			}
			v6 := p.Embed(v4)
			if seen[v6] {
				continue
			}
			seen[v6] = true
			made = append(made, &dns.AAAA{
				// "The NAME field is set to the NAME field from the A record."
				Hdr:  dns.RR_Header{Name: record.Hdr.Name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: limit},
				AAAA: v6.AsSlice(),
			})
		}
	}
	return made
}

// unreachable reports whether an IPv4 address means nothing beyond a host or a
// link (RFC 6890), or is no host's.
func unreachable(a netip.Addr) bool {
	b := a.As4()
	return b[0] == 0 || b[0] >= 240 || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast()
}
