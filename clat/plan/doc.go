// Package plan decides what a host should look like as the CLAT of its 464XLAT
// networks (RFC 6877). It is pure: it imports nothing but the standard library
// and package siit, and reads neither clock nor network.
//
//   - [Observed] is what the host looks like: links, addresses, default routes,
//     and what routers and resolvers say of PREF64. Package clat/host fills it
//     in; the caller adds PREF64.
//   - [Make] returns the [Plan] for an observation and a configuration: for each
//     uplink the CLAT that should run, or a sentence that says why none should.
//   - [Candidates] lists the links on which to look for PREF64 before that.
//
// The rules are those of RFC 6877, RFC 7335 and draft-ietf-v6ops-claton: a CLAT
// for each uplink, with an IPv6 address of its own in the uplink's prefix that
// RFC 6724 would choose towards PREF64, an IPv4 address of 192.0.0.0/29, and
// nothing at all while the uplink has native IPv4 or another CLAT. Its IPv4
// default route is worse than every native one.
//
// The package also defines the words that its users share: [Addr], [Link],
// [Route], [Uplink], the two MTUs, and the marks by which what we add to a host
// is found again ([Protocol], [AliasPrefix]).
package plan
