package dns64

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// Limits of clients.
const (
	maxPending       = 2048 // queries of all clients that wait for an answer
	maxClientPending = 128  // of one
	maxConnections   = 512  // TCP connections of all clients
	maxClientConns   = 16   // of one
	maxClients       = 8192 // clients that are remembered
)

// admission counts what clients have pending and limits it. Safe for concurrent
// use.
type admission struct {
	rate float64 // queries of a client in a second; 0: no limit
	now  func() time.Time

	mu      sync.Mutex
	clients map[netip.Addr]*list.Element
	recent  *list.List // of *client, the latest in front
	pending int
	conns   int
}

// client is what is counted of one source address.
type client struct {
	addr    netip.Addr
	tokens  float64
	at      time.Time // when tokens was right
	pending int
	conns   int
}

func newAdmission(rate int, now func() time.Time) *admission {
	return &admission{rate: float64(rate), now: now, clients: map[netip.Addr]*list.Element{}, recent: list.New()}
}

// of returns what is counted of an address. The least recent client is
// forgotten for a new one: one that is idle where there is such a one among the
// last few.
func (a *admission) of(addr netip.Addr) *client {
	if e := a.clients[addr]; e != nil {
		a.recent.MoveToFront(e)
		return e.Value.(*client)
	}
	if len(a.clients) >= maxClients {
		oldest := a.recent.Back()
		for e, tries := oldest, 0; e != nil && tries < 16; e, tries = e.Prev(), tries+1 {
			if c := e.Value.(*client); c.pending == 0 && c.conns == 0 {
				oldest = e
				break
			}
		}
		delete(a.clients, oldest.Value.(*client).addr)
		a.recent.Remove(oldest)
	}
	c := &client{addr: addr, tokens: a.rate, at: a.now()}
	a.clients[addr] = a.recent.PushFront(c)
	return c
}

// query admits a query of a client. release is called when it has been
// answered.
func (a *admission) query(addr netip.Addr) (release func(), o Outcome, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.of(addr)
	if a.rate > 0 {
		// A token bucket that holds what comes in one second.
		now := a.now()
		c.tokens = min(a.rate, c.tokens+now.Sub(c.at).Seconds()*a.rate)
		c.at = now
		if c.tokens < 1 {
			return nil, RateLimited, false
		}
		c.tokens--
	}
	if a.pending >= maxPending || c.pending >= maxClientPending {
		return nil, TooManyPending, false
	}
	a.pending++
	c.pending++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.pending--
		c.pending--
	}, 0, true
}

// connection admits a TCP connection of a client. release is called when it is
// closed.
func (a *admission) connection(addr netip.Addr) (release func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.of(addr)
	if a.conns >= maxConnections || c.conns >= maxClientConns {
		return nil, false
	}
	a.conns++
	c.conns++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.conns--
		c.conns--
	}, true
}
