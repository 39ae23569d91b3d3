package dns64

import (
	"errors"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxLookups bounds the lookups for one type, where the chain of CNAME and
// DNAME records that leads to it comes piece by piece, and maxLinks its length.
const (
	maxLookups = 8
	maxLinks   = 32
)

// chain is what lookups of one type have found, at the end of CNAME and DNAME
// records.
type chain struct {
	links     []dns.RR // CNAME and DNAME records, with signatures
	records   []dns.RR // of the type, at the chain's end
	signs     []dns.RR // signatures over records
	last      *dns.Msg // the response to the last lookup
	authentic bool     // every response had the AD bit
}

var errLoop = errors.New("the chain of CNAME and DNAME records is a loop or too long")

// chase follows "the CNAME or DNAME chain until the first terminating A or AAAA
// record is reached" (RFC 6147 section 5.1.5). Resolvers follow it themselves;
// where a response ends in the middle, chase asks for the next name. A loop is
// an error.
func chase(name string, qtype uint16, lookup Lookup) (*chain, error) {
	c := &chain{authentic: true}
	visited := map[string]bool{}
	for range maxLookups {
		m, err := lookup(name, qtype)
		if err != nil {
			return nil, err
		}
		c.last = m
		c.authentic = c.authentic && m.AuthenticatedData
		end, err := c.follow(name, qtype, visited)
		if err != nil {
			return nil, err
		}
		// A response that names the end of the chain and has neither records
		// nor a reason why there are none stopped in the middle.
		if end == dns.CanonicalName(name) || len(c.records) > 0 || m.Rcode != dns.RcodeSuccess || hasSOA(m) {
			return c, nil
		}
		name = end
	}
	return nil, errLoop
}

// follow walks through the answer section from name and returns the name at
// which the chain ends, in canonical form.
func (c *chain) follow(name string, qtype uint16, visited map[string]bool) (string, error) {
	name = dns.CanonicalName(name)
	for {
		if visited[name] {
			return "", errLoop
		}
		if visited[name] = true; len(visited) > maxLinks {
			return "", errLoop
		}
		next := ""
		for _, rr := range c.last.Answer {
			h := rr.Header()
			owner := dns.CanonicalName(h.Name)
			switch rr := rr.(type) {
			case *dns.RRSIG:
				switch {
				case owner == name && rr.TypeCovered == qtype:
					c.signs = append(c.signs, rr)
				case owner == name && rr.TypeCovered == dns.TypeCNAME, isBelow(name, owner) && rr.TypeCovered == dns.TypeDNAME:
					c.links = append(c.links, rr)
				}
			case *dns.CNAME:
				if owner == name && next == "" {
					c.links = append(c.links, rr)
					next = dns.CanonicalName(rr.Target)
				}
			case *dns.DNAME:
				if isBelow(name, owner) {
					c.links = append(c.links, rr)
				}
			default:
				if owner == name && h.Rrtype == qtype && h.Class == dns.ClassINET {
					c.records = append(c.records, rr)
				}
			}
		}
		if next == "" {
			// RFC 6672 section 3.1: a DNAME comes with the CNAME that it makes;
			// to servers that send none it was an error already.
			delete(visited, name) // the next lookup begins there
			return name, nil
		}
		if len(c.records) > 0 { // beside a CNAME there is nothing else
			c.records, c.signs = nil, nil
		}
		name = next
	}
}

// isBelow reports whether name lies below parent, both in canonical form.
func isBelow(name, parent string) bool {
	return parent == "." && name != "." || strings.HasSuffix(name, "."+parent)
}

func hasSOA(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}

// message is the last response with the whole chain as its answer section.
func (c *chain) message() *dns.Msg {
	m := *c.last
	m.Answer = slices.Concat(c.links, c.records, c.signs)
	m.AuthenticatedData = c.authentic
	return &m
}
