package dns64

import (
	"net/netip"

	"github.com/miekg/dns"
)

// ipv4onlyName is the name by which clients discover a PREF64 (RFC 7050).
const ipv4onlyName = "ipv4only.arpa."

// wellKnown are the IPv4 addresses of ipv4only.arpa (RFC 7050 section 8.2).
var wellKnown = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 0, 170}), netip.AddrFrom4([4]byte{192, 0, 0, 171})}

// TTLs of ipv4only.arpa in seconds, as the zone has them. Its negative TTL is
// that of the synthetic records (RFC 6147 section 5.1.7).
const (
	ipv4onlyTTL         = 86400
	ipv4onlyNegativeTTL = 3600
)

// ipv4only answers questions about ipv4only.arpa and the reverse names of its
// addresses from what RFC 8880 section 7.2 says: they are the same everywhere,
// and nobody is asked. ok is false for other questions and for DS, which proves
// that the name is not signed.
func (r *Rules) ipv4only(query *dns.Msg) (m *dns.Msg, ok bool) {
	q := query.Question[0]
	name := dns.CanonicalName(q.Name)
	for _, a := range wellKnown {
		if name == reverseName(a) && q.Qtype == dns.TypePTR {
			m = reply(query)
			m.Answer = []dns.RR{&dns.PTR{Hdr: header(q.Name, dns.TypePTR, ipv4onlyTTL), Ptr: ipv4onlyName}}
			return m, true
		}
	}
	below := isBelow(name, ipv4onlyName)
	if name != ipv4onlyName && !below || q.Qtype == dns.TypeDS && !below {
		return nil, false
	}
	m = reply(query)
	switch {
	case below:
		m.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypeA:
		m.Answer = ipv4onlyA(q.Name)
	case q.Qtype == dns.TypeAAAA:
		m.Answer = r.synthesize(ipv4onlyA(q.Name), ipv4onlyNegativeTTL)
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{&dns.SOA{
			Hdr: header(ipv4onlyName, dns.TypeSOA, ipv4onlyNegativeTTL),
			Ns:  "sns.dns.icann.org.", Mbox: "noc.dns.icann.org.", Serial: 1,
			Refresh: 7200, Retry: 3600, Expire: 604800, Minttl: ipv4onlyNegativeTTL,
		}}
	}
	return m, true
}

func ipv4onlyA(name string) (records []dns.RR) {
	for _, a := range wellKnown {
		records = append(records, &dns.A{Hdr: header(name, dns.TypeA, ipv4onlyTTL), A: a.AsSlice()})
	}
	return records
}

// header is that of a record of class IN. The TTL is in seconds.
func header(name string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}
