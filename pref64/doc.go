// Package pref64 finds the prefix under which a network's NAT64 represents
// IPv4 addresses (PREF64): configured by hand, advertised by routers (RFC
// 8781), or derived from the answers of the network's DNS64 (RFC 7050, RFC
// 8880).
//
// A [Finder] does it for one uplink:
//
//	f := pref64.NewFinder(pref64.Options{Interface: index, Name: "wlan0", RA: true, DNS: true, Log: log})
//	go f.Run(ctx)
//	for range f.Changed() {
//		s := f.Snapshot() // s.Candidates[0] is the one to use
//		...
//	}
//
// Its parts can be used alone. A [Source] listens and emits one [Report] per
// message. A [Tracker] enters reports into tables (prefixes, routers, on-link
// prefixes, resolvers), selects one prefix as a pure function of these tables,
// keeps it as long as it is valid, and signals changes.
//
// Configured prefixes disable discovery. Otherwise routers come first (RFC
// 9872): DNS is asked only when they have had time to advertise a prefix and
// did not, or when the NAT64 behind the advertised one is in doubt. A prefix of
// DNS is dropped as soon as a router advertises one. Questions go to the link's
// own resolvers, over the link, whatever the routing table says: the resolvers
// of a VPN, a stub on this host, or a public one that the user has chosen
// describe another network, or none.
//
// Invalid input is refused under a named [Reason], and all tables are bounded.
// Router Advertisements and DNS answers are not authenticated: any station on
// the link can forge them. DNSSEC does not help: ipv4only.arpa is not signed
// (RFC 8880 section 7.1).
//
// Timers run only while a lifetime will end or a question is pending: with
// prefixes of routers one for the next lifetime to end, and with prefixes of
// DNS one question for each TTL, at least a minute apart.
//
// The package does not choose the interface and does not test the NAT64; its
// caller reports a NAT64 that does not answer by Doubt.
package pref64
