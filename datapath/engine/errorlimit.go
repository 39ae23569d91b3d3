package engine

import (
	"hash/maphash"
	"math"
	"sync"
	"time"
)

// errorLimits decides which of the translator's own ICMP errors are sent
// (RFC 4443 section 2.4 f, RFC 1812 section 4.3.2.8). Each side of the
// translator has a budget of its own, so that packets from one side cannot use
// up the errors that hosts on the other side depend on.
type errorLimits struct{ ipv4, ipv6 *errorLimit }

// newErrorLimits returns limits of perSecond errors for each side; 0 means that
// no error is ever sent.
func newErrorLimits(perSecond int) errorLimits {
	if perSecond <= 0 {
		return errorLimits{}
	}
	now := time.Now()
	return errorLimits{ipv4: newErrorLimit(perSecond, now), ipv6: newErrorLimit(perSecond, now)}
}

// allow takes what the ICMP error packet costs, and reports false if it must
// not be sent. packet is a complete error as siit makes it.
func (l *errorLimits) allow(packet []byte, now time.Time) bool {
	var d errorDestination
	limit := l.ipv4
	if packet[0]>>4 == 4 {
		// All programs of a host share one IPv4 address, so a peer is also
		// told by whom the quoted packet was meant for.
		copy(d.host[:], packet[16:20])
		copy(d.peer[:], packet[16:20])
		copy(d.peer[4:], packet[28+16:28+20])
	} else {
		// Who has one IPv6 address has all of its /64.
		limit = l.ipv6
		copy(d.host[:8], packet[24:32])
		copy(d.peer[:], packet[24:40])
	}
	return limit != nil && limit.allow(&d, now)
}

// errorDestination is whom an ICMP error goes to: the host, and a finer key
// within the host.
type errorDestination struct{ host, peer [16]byte }

// errorLimit is the budget of one side. Part of it is free to all. The rest is
// a reserve, from which each host and each peer may draw only its share: a
// destination that asks for too many errors gets what is left over, and one
// that asks for few gets them.
//
// The lock is taken for refused packets only.
type errorLimit struct {
	mu      sync.Mutex
	all     bucket
	fill    rate
	reserve float64
	hosts   buckets
	peers   buckets
}

// minErrorBurst lets a traceroute through where few errors are allowed.
const minErrorBurst = 10

func newErrorLimit(perSecond int, now time.Time) *errorLimit {
	n := float64(perSecond)
	burst := max(n, minErrorBurst)
	peer := rate{perSecond: n / 16, burst: max(math.Floor(burst/8), minErrorBurst-1)}
	host := rate{perSecond: n / 8, burst: 2 * peer.burst}
	l := &errorLimit{reserve: 2 * host.burst, hosts: newBuckets(host), peers: newBuckets(peer)}
	// A single destination gets burst errors at once: all that is free, and its
	// share of the reserve.
	l.fill = rate{perSecond: n, burst: burst - peer.burst + l.reserve}
	l.all = bucket{tokens: l.fill.burst, at: now}
	return l
}

func (l *errorLimit) allow(d *errorDestination, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.refill(l.fill, now)
	if l.all.tokens >= l.reserve+1 {
		l.all.tokens--
		return true
	}
	host, peer := l.hosts.of(&d.host, now), l.peers.of(&d.peer, now)
	if l.all.tokens < 1 || host.tokens < 1 || peer.tokens < 1 {
		return false
	}
	l.all.tokens--
	host.tokens--
	peer.tokens--
	return true
}

// rate is how fast a token bucket fills, and how much it holds.
type rate struct{ perSecond, burst float64 }

// bucket is a token bucket as it was at some time.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) refill(r rate, now time.Time) {
	if d := now.Sub(b.at).Seconds(); d > 0 {
		b.tokens, b.at = min(r.burst, b.tokens+d*r.perSecond), now
	}
}

const (
	bucketSets = 64
	bucketWays = 4
)

// buckets are token buckets by key in a table of fixed size. Where it is full
// the fullest of a few buckets gives way: forgetting that one loses the least.
// Which few is secret, so that nobody can aim at the bucket of another.
type buckets struct {
	rate rate
	seed maphash.Seed
	sets *[bucketSets][bucketWays]keyedBucket
}

type keyedBucket struct {
	bucket // the zero time marks a free place
	key    [16]byte
}

func newBuckets(r rate) buckets {
	return buckets{rate: r, seed: maphash.MakeSeed(), sets: new([bucketSets][bucketWays]keyedBucket)}
}

// of returns the bucket of key, a full one if there is none yet.
func (t *buckets) of(key *[16]byte, now time.Time) *bucket {
	set := &t.sets[maphash.Bytes(t.seed, key[:])%bucketSets]
	fullest := &set[0]
	for i := range set {
		b := &set[i]
		if b.at.IsZero() {
			fullest = b
			break
		}
		b.refill(t.rate, now)
		if b.key == *key {
			return &b.bucket
		}
		if b.tokens > fullest.tokens {
			fullest = b
		}
	}
	*fullest = keyedBucket{bucket{tokens: t.rate.burst, at: now}, *key}
	return &fullest.bucket
}
