package dns64

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// ptr answers a query for the PTR record of a, an address in the prefix p (RFC
// 6147 section 5.3.1), by the second way of that section: "synthesize a CNAME
// mapping the IP6.ARPA namespace to the corresponding IN-ADDR.ARPA name".
func (r *Rules) ptr(query *dns.Msg, a netip.Addr, p prefix, lookup Lookup) (*dns.Msg, Outcome) {
	name := query.Question[0].Name
	v4, _ := p.Extract(a)
	if p.Embed(v4) != a {
		// Its suffix is not zero: it stands for nobody (RFC 6052 section 2.2).
		m := reply(query)
		m.Rcode = dns.RcodeNameError
		m.Ns = reverseSOA(p)
		return m, NameError
	}
	target := reverseName(v4)
	var end *chain
	if well, ok := r.ipv4only(question(target, dns.TypePTR)); ok {
		end = &chain{records: well.Answer, last: well}
	} else {
		var err error
		if end, err = chase(target, dns.TypePTR, lookup); err != nil {
			return failure(query), Failed
		}
	}
	switch end.last.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	default:
		return passed(query, &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: end.last.Rcode}}), outcomeOf(end.last)
	}
	m := reply(query)
	if len(end.records) == 0 {
		// "The DNS64 nameserver SHOULD ensure that there is RDATA at the PTR of
		// the corresponding IN-ADDR.ARPA name", so there is no CNAME to nothing.
		m.Rcode = end.last.Rcode
		m.Ns = reverseSOA(p)
		return m, outcomeOf(m)
	}
	// "... and that there is not an existing CNAME at that name", to keep chains
	// short. There are such names where a provider delegates parts of a /24 (RFC
	// 2317); leaving them out would lose their names, and chains are bounded.
	ttl := uint32(ipv4onlyTTL)
	for _, rr := range end.records {
		ttl = min(ttl, rr.Header().Ttl)
	}
	m.Answer = append([]dns.RR{&dns.CNAME{Hdr: header(name, dns.TypeCNAME, ttl), Target: target}}, end.message().Answer...)
	m.Ns, m.Extra = end.last.Ns, end.last.Extra
	return m, Reverse
}

// prefixOf returns the translation prefix that contains a.
func (r *Rules) prefixOf(a netip.Addr) (prefix, bool) {
	for _, p := range r.reverse {
		if _, ok := p.Extract(a); ok {
			return p, true
		}
	}
	return prefix{}, false
}

// question makes a query without DNSSEC.
func question(name string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(name, qtype)
}

// reverseName returns the name of the PTR records of an address, under
// in-addr.arpa or ip6.arpa, in canonical form.
func reverseName(a netip.Addr) string {
	name, err := dns.ReverseAddr(a.String())
	if err != nil {
		return "."
	}
	return name
}

// addressOf is the reverse of reverseName for IPv6 (RFC 3596 section 2.5).
func addressOf(name string) (a netip.Addr, ok bool) {
	nibbles, ok := strings.CutSuffix(dns.CanonicalName(name), ".ip6.arpa.")
	if !ok || len(nibbles) != 63 {
		return a, false
	}
	var b [16]byte
	for i := range 32 {
		digit := strings.IndexByte("0123456789abcdef", nibbles[2*i])
		if digit < 0 || i < 31 && nibbles[2*i+1] != '.' {
			return a, false
		}
		b[15-i/2] |= byte(digit) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}

// reverseTTL is that of negative answers about synthetic names, in seconds.
const reverseTTL = 600

// reverseSOA is the SOA record of the zone that negative answers about a
// prefix come from, in the form of RFC 6303 section 3, for their TTL.
func reverseSOA(p prefix) []dns.RR {
	zone := reverseName(p.Embed(netip.IPv4Unspecified()))
	zone = zone[2*(128-p.bits)/4:] // every length is a multiple of 4
	return []dns.RR{&dns.SOA{
		Hdr: header(zone, dns.TypeSOA, reverseTTL),
		Ns:  zone, Mbox: "nobody.invalid.", Serial: 1,
		Refresh: 3600, Retry: 1200, Expire: 604800, Minttl: reverseTTL,
	}}
}
