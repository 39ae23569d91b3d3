package shim

import (
	"net/netip"
	"sync"
	"time"
)

const (
	rememberFor   = 10 * time.Minute
	maxRemembered = 4096 // destinations
)

// memory remembers for which destinations one of the two families failed and
// the other was used. It forgets each after rememberFor.
type memory struct {
	mu sync.Mutex
	of map[netip.Addr]remembered
}

type remembered struct {
	ipv4  bool
	until time.Time
}

// set remembers that a is to be reached by IPv4, or through NAT64.
func (m *memory) set(a netip.Addr, ipv4 bool, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[netip.Addr]remembered{}
	}
	if _, ok := m.of[a]; !ok && len(m.of) >= maxRemembered {
		m.drop(now)
	}
	m.of[a] = remembered{ipv4, now.Add(rememberFor)}
}

// drop makes room: everything that has ended, or else any one.
func (m *memory) drop(now time.Time) {
	for a, r := range m.of {
		if now.After(r.until) {
			delete(m.of, a)
		}
	}
	for a := range m.of {
		if len(m.of) < maxRemembered {
			return
		}
		delete(m.of, a)
	}
}

// get returns what is remembered of a.
func (m *memory) get(a netip.Addr, now time.Time) (ipv4, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.of[a]
	if !ok || now.After(r.until) {
		return false, false
	}
	return r.ipv4, true
}
