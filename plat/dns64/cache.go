package dns64

import (
	"container/list"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// key is what a response depends on.
type key struct {
	name   string // canonical
	qtype  uint16
	qclass uint16
	do, cd bool
	ad     bool
}

// Bounds of the cache. TTLs in seconds.
const (
	maxEntryBytes     = 16 << 10 // longer responses are not remembered
	averageEntryBytes = 1 << 10  // times the number of entries: all of them
	maxTTL            = 86400
	maxNegativeTTL    = 3600 // RFC 2308 section 5 suggests one to three hours
	failureTTL        = 5    // RFC 9520 section 3.2: between 1 and 300
)

// cache remembers responses until their TTL has passed, the least recently used
// go first. It is bounded in entries and bytes. Safe for concurrent use.
type cache struct {
	entries int
	bytes   int
	now     func() time.Time

	mu     sync.Mutex
	byKey  map[key]*list.Element
	recent *list.List // of *cached, the most recently used in front
	size   int        // bytes
}

type cached struct {
	key    key
	m      *dns.Msg
	size   int
	stored time.Time
	ttl    time.Duration
}

func newCache(entries int, now func() time.Time) *cache {
	return &cache{
		entries: entries, bytes: max(1<<20, entries*averageEntryBytes), now: now,
		byKey: map[key]*list.Element{}, recent: list.New(),
	}
}

// get returns a copy of a response with the TTLs that are left.
func (c *cache) get(k key) *dns.Msg {
	c.mu.Lock()
	e := c.byKey[k]
	if e == nil {
		c.mu.Unlock()
		return nil
	}
	v := e.Value.(*cached)
	age := c.now().Sub(v.stored)
	if age >= v.ttl {
		c.remove(e)
		c.mu.Unlock()
		return nil
	}
	c.recent.MoveToFront(e)
	c.mu.Unlock()

	m := v.m.Copy()
	passed := uint32(age / time.Second)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			h := rr.Header()
			h.Ttl -= min(h.Ttl, passed)
		}
	}
	return m
}

// put remembers m, which the cache then owns, unless its TTL is 0 or it is too
// long.
func (c *cache) put(k key, m *dns.Msg) {
	ttl := ttlOf(m)
	size := m.Len()
	if c.entries == 0 || ttl == 0 || size > maxEntryBytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[k]; e != nil {
		c.remove(e)
	}
	c.byKey[k] = c.recent.PushFront(&cached{key: k, m: m, size: size, stored: c.now(), ttl: time.Duration(ttl) * time.Second})
	c.size += size
	for len(c.byKey) > c.entries || c.size > c.bytes {
		c.remove(c.recent.Back())
	}
}

func (c *cache) remove(e *list.Element) {
	v := e.Value.(*cached)
	c.recent.Remove(e)
	delete(c.byKey, v.key)
	c.size -= v.size
}

// length returns the number of entries.
func (c *cache) length() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byKey)
}

// ttlOf returns for how many seconds a response may be remembered.
func ttlOf(m *dns.Msg) uint32 {
	switch m.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	default:
		return failureTTL
	}
	ttl := uint32(maxTTL)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			ttl = min(ttl, rr.Header().Ttl)
		}
	}
	if m.Rcode == dns.RcodeSuccess && hasAnswer(m) {
		return ttl
	}
	// RFC 2308 section 5: a negative answer without SOA record is not cached.
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(ttl, soa.Minttl, maxNegativeTTL)
		}
	}
	return 0
}

// hasAnswer reports whether the answer section has more than a chain of CNAME
// records that leads nowhere.
func hasAnswer(m *dns.Msg) bool {
	for _, rr := range m.Answer {
		switch t := rr.Header().Rrtype; t {
		case dns.TypeCNAME, dns.TypeDNAME:
			if len(m.Question) == 1 && m.Question[0].Qtype == t {
				return true
			}
		case dns.TypeRRSIG:
		default:
			return true
		}
	}
	return false
}
