package dns64

import (
	"container/list"
	"math"
	"net/netip"
	"sync"
	"time"
)

// Limits of clients. A host can use any address of its /64, so that addresses
// are limited together with others of their /64.
const (
	maxPending        = 2048 // queries of all clients that wait for an answer
	maxNetworkPending = 256  // of one /64
	maxClientPending  = 128  // of one address
	maxConnections    = 512  // TCP connections of all clients
	maxNetworkConns   = 32   // of one /64
	maxClientConns    = 16   // of one address
	maxClients        = 8192 // addresses and /64s that are remembered
)

// admission counts what clients have pending and limits it. Safe for concurrent
// use.
type admission struct {
	rate float64 // queries of a /64 in a second; 0: no limit
	now  func() time.Time

	mu      sync.Mutex
	clients map[source]*list.Element
	recent  *list.List // of *client, the latest in front
	pending int
	conns   int
}

// source is an address, or the /64 of one: the first address of that.
type source struct {
	addr    netip.Addr
	network bool
}

// networkOf returns the /64 of an IPv6 address, on its link where it is
// link-local. An IPv4 address stands for itself.
func networkOf(a netip.Addr) source {
	if a.Is6() {
		p, _ := a.Prefix(64) // an IPv6 address has one
		a = p.Addr().WithZone(a.Zone())
	}
	return source{a, true}
}

// client is what is counted of a source.
type client struct {
	source  source
	tokens  float64
	at      time.Time // when tokens was right
	pending int
	conns   int
}

func newAdmission(rate int, now func() time.Time) *admission {
	return &admission{rate: float64(rate), now: now, clients: map[source]*list.Element{}, recent: list.New()}
}

// of returns what is counted of a source. The least recent one is forgotten for
// a new one: one that is idle where there is such a one among the last few.
func (a *admission) of(s source) *client {
	if e := a.clients[s]; e != nil {
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
		delete(a.clients, oldest.Value.(*client).source)
		a.recent.Remove(oldest)
	}
	c := &client{source: s, tokens: a.rate, at: a.now()}
	a.clients[s] = a.recent.PushFront(c)
	return c
}

// query admits a query of a client. release is called when it has been
// answered.
func (a *admission) query(addr netip.Addr) (release func(), o Outcome, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, n := a.of(source{addr: addr}), a.of(networkOf(addr))
	switch {
	case !a.take(c, n):
		return nil, RateLimited, false
	case a.pending >= maxPending, n.pending >= maxNetworkPending, c.pending >= maxClientPending:
		return nil, TooManyPending, false
	}
	a.pending++
	n.pending++
	c.pending++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.pending--
		n.pending--
		c.pending--
	}, 0, true
}

// take takes a token of the /64 n for its address c. The bucket holds what comes
// in one second. The upper half is for everybody; of the lower half an address
// gets half of the rate, so that one that floods leaves the rest to others.
func (a *admission) take(c, n *client) bool {
	if a.rate == 0 {
		return true
	}
	now, half := a.now(), math.Floor(a.rate/2)
	n.fill(now, a.rate)
	c.fill(now, half)
	switch {
	case n.tokens < 1:
		return false
	case n.tokens-1 >= half:
	case c.tokens < 1:
		return false
	default:
		c.tokens--
	}
	n.tokens--
	return true
}

// fill adds the tokens that have come since the last time.
func (c *client) fill(now time.Time, rate float64) {
	c.tokens = min(rate, c.tokens+now.Sub(c.at).Seconds()*rate)
	c.at = now
}

// connection admits a TCP connection of a client. release is called when it is
// closed.
func (a *admission) connection(addr netip.Addr) (release func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, n := a.of(source{addr: addr}), a.of(networkOf(addr))
	if a.conns >= maxConnections || n.conns >= maxNetworkConns || c.conns >= maxClientConns {
		return nil, false
	}
	a.conns++
	n.conns++
	c.conns++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.conns--
		n.conns--
		c.conns--
	}, true
}
