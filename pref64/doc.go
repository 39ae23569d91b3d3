// Package pref64 finds the prefix under which a network's NAT64 represents
// IPv4 addresses (PREF64): configured by hand, advertised by routers (RFC
// 8781), or given away by the network's DNS64 (RFC 7050, RFC 8880).
//
// A [Finder] does it for one uplink:
//
//	f := pref64.NewFinder(pref64.Options{Interface: index, Name: "wlan0", RA: true, DNS: true, Log: log})
//	go f.Run(ctx)
//	for range f.Changed() {
//		s := f.Snapshot() // s.Candidates[0] is the one to use, s.Discovery says the rest in words
//		...
//	}
//
// Its parts are of use alone, too. A [Source] listens and says what it heard,
// one [Report] per message. A [Tracker] remembers what is valid, for how long
// and from whom, chooses one prefix, keeps to it as long as it is valid, and
// tells its owner only when the choice changes.
//
// What the user has written counts alone. Otherwise routers come first (RFC
// 9872): DNS is asked only when they have had their chance and advertise none,
// or when the NAT64 behind what they advertise is in doubt, and what it says is
// dropped as soon as one of them advertises a prefix. Questions go to
// the link's own resolvers, over the link, whatever the routing table says: the
// resolvers of a VPN, a stub on this host, or a public one that the user has
// chosen would tell about another network, or nothing.
//
// Everything that comes from the network is refused unless it is exactly
// right, under a named [Reason], in memory that does not grow. Router
// Advertisements and answers of DNS are authenticated by nothing; who can send
// on the link can also send these. Answers are not validated by DNSSEC: the
// name is not signed, on purpose (RFC 8880 section 7.1).
//
// No timer runs unless something will end or is to be asked again: with
// prefixes of routers none but that of the next lifetime to end, which every
// advertisement moves on, and with prefixes of DNS one question for each TTL,
// at least a minute apart.
//
// What it does not do: choose the interface, or tell whether the NAT64 works
// (who can tell says so by Doubt).
package pref64
