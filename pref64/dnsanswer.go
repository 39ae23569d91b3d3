package pref64

import (
	"math"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxRecords = 64 // of an answer that are walked over
	maxAAAA    = 32 // of these that are looked at
)

// ipv4only is the name whose only addresses are the two well-known ones, so
// that every AAAA record of it is the work of a DNS64 (RFC 7050).
var ipv4only = dnsmessage.MustNewName("ipv4only.arpa.")

// query returns a question for the AAAA records of ipv4only.arpa. CD is 0, as
// a DNS64 would leave the answer alone otherwise (RFC 7050 section 3). There
// is no EDNS0: two AAAA records fit into 512 bytes, and there is no server
// that it could disturb.
func query(id uint16) []byte {
	b := dnsmessage.NewBuilder(make([]byte, 0, 32), dnsmessage.Header{ID: id, RecursionDesired: true})
	err := b.StartQuestions()
	if err == nil {
		err = b.Question(dnsmessage.Question{Name: ipv4only, Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET})
	}
	msg, ferr := b.Finish()
	if err != nil || ferr != nil {
		panic("pref64: a constant question cannot be built")
	}
	return msg
}

// answer is what a resolver says about ipv4only.arpa. It is one of four: cut
// off, an error (rcode), prefixes, or none.
type answer struct {
	cut      bool // ask again over TCP
	rcode    dnsmessage.RCode
	prefixes []netip.Prefix
	addrs    []netip.Addr  // of the AAAA records, at most maxAAAA
	negative bool          // there is no such record: no DNS64
	ttl      time.Duration // of the prefixes, or of their absence; 0 if not given
	ignored  Reason        // why there are no prefixes though there are records; TooManyRecords: some were not looked at
}

// parseAnswer reads msg as the answer to query(id). The Reasons WrongID and
// WrongQuestion mean that it is an answer to something else; any other except
// None that it cannot be used. DNSSEC does not matter: ipv4only.arpa is not
// signed (RFC 8880 section 7.1).
func parseAnswer(msg []byte, id uint16) (answer, Reason) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.ID != id {
		return answer{}, WrongID
	}
	q, err := p.Question()
	if err != nil || !h.Response || h.OpCode != 0 ||
		!isName(q.Name, ipv4only) || q.Type != dnsmessage.TypeAAAA || q.Class != dnsmessage.ClassINET {
		return answer{}, WrongQuestion
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return answer{}, WrongQuestion
	}
	switch {
	case h.Truncated:
		return answer{cut: true}, None
	case h.RCode == dnsmessage.RCodeNameError:
		if err := p.SkipAllAnswers(); err != nil {
			return answer{}, MalformedAnswer
		}
		return negative(&p)
	case h.RCode != dnsmessage.RCodeSuccess:
		return answer{rcode: h.RCode}, None
	}

	addrs, ttl, all, reason := addresses(&p)
	switch {
	case reason != None:
		return answer{}, reason
	case len(addrs) == 0 && all:
		return negative(&p)
	}
	a := answer{ttl: ttl, addrs: addrs}
	if a.prefixes, a.ignored = prefixesOf(addrs); !all {
		a.ignored = TooManyRecords
	}
	return a, None
}

// addresses returns the AAAA records of ipv4only.arpa, by way of CNAMEs if
// they come first, with the shortest TTL of all of these. all is false if not
// every record was looked at.
func addresses(p *dnsmessage.Parser) (addrs []netip.Addr, ttl time.Duration, all bool, reason Reason) {
	name := ipv4only
	ttl = math.MaxInt64
	for walked := 0; ; walked++ {
		h, err := p.AnswerHeader()
		switch {
		case err == dnsmessage.ErrSectionDone:
			return addrs, ttl, true, None
		case err != nil:
			return nil, 0, false, MalformedAnswer
		case walked == maxRecords || len(addrs) == maxAAAA:
			return addrs, ttl, false, None
		}
		ours := h.Class == dnsmessage.ClassINET && isName(h.Name, name)
		switch {
		case ours && h.Type == dnsmessage.TypeAAAA:
			// The parser does not compare the record's length with that of an
			// address.
			if h.Length != 16 {
				return nil, 0, false, MalformedAnswer
			}
			r, err := p.AAAAResource()
			if err != nil {
				return nil, 0, false, MalformedAnswer
			}
			addrs = append(addrs, netip.AddrFrom16(r.AAAA))
			ttl = min(ttl, seconds(h.TTL))
		case ours && h.Type == dnsmessage.TypeCNAME:
			r, err := p.CNAMEResource()
			if err != nil {
				return nil, 0, false, MalformedAnswer
			}
			ttl = min(ttl, seconds(h.TTL))
			name = r.CNAME
		default:
			if err := p.SkipAnswer(); err != nil {
				return nil, 0, false, MalformedAnswer
			}
		}
	}
}

// negative reads for how long there is no answer: as long as the SOA record
// lives, or says in its last field (RFC 2308 section 5).
func negative(p *dnsmessage.Parser) (answer, Reason) {
	a := answer{negative: true}
	for range maxRecords {
		h, err := p.AuthorityHeader()
		if err == dnsmessage.ErrSectionDone {
			return a, None
		}
		if err == nil && h.Type != dnsmessage.TypeSOA {
			err = p.SkipAuthority()
			if err == nil {
				continue
			}
		}
		if err != nil {
			return answer{}, MalformedAnswer
		}
		soa, err := p.SOAResource()
		if err != nil {
			return answer{}, MalformedAnswer
		}
		a.ttl = min(seconds(h.TTL), seconds(soa.MinTTL))
		return a, None
	}
	return a, None
}

func isName(a, b dnsmessage.Name) bool { return strings.EqualFold(a.String(), b.String()) }
