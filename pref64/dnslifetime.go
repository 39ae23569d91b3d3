package pref64

import "time"

const (
	// refreshEarly is how long before the end of the TTL DNS is asked again
	// (RFC 7050 section 3).
	refreshEarly = 10 * time.Second

	// A TTL counts within these bounds. With the lower ones questions are at
	// least a minute apart, whatever the network says. RFC 2308 section 5
	// finds one to three hours sensible for negative answers.
	minTTL         = time.Minute + refreshEarly
	maxTTL         = 24 * time.Hour
	minNegativeTTL = time.Minute
	maxNegativeTTL = 3 * time.Hour

	// graceTTL is how long a prefix is kept beyond its TTL if no server
	// answers: the silence of a resolver that restarts says nothing about the
	// NAT64 (RFC 8767 does so for addresses, for much longer).
	graceTTL = time.Minute
)

// lifetime returns how long the prefixes of a are valid.
func (a answer) lifetime() time.Duration { return min(max(a.ttl, minTTL), maxTTL) }

// negativeLifetime returns how long the absence of prefixes is cached; 0: not
// at all, because the answer has no SOA record.
func (a answer) negativeLifetime() time.Duration {
	if !a.negative || a.ttl == 0 {
		return 0
	}
	return min(max(a.ttl, minNegativeTTL), maxNegativeTTL)
}

// seconds returns a TTL as a Duration. One with the highest bit set counts as 0 (RFC 2181 section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
