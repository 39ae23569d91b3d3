// Package dns64 is a DNS64 (RFC 6147): a forwarding resolver that gives hosts on
// an IPv6-only network AAAA records for names that only have A records.
//
// [Rules] decides: a pure function of a query and of what a lookup of other
// records returns, clause by clause after RFC 6147 section 5. [Server] is the
// rest: listeners, limits, cache, upstream resolvers and local zones.
//
// It validates no signatures. It is security-aware in the sense of RFC 4035: it
// passes the bits DO and CD on, relies on its upstream resolvers to validate,
// and repeats their AD bit only where everything in an answer had it.
package dns64
