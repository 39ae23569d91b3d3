// Package pref64 finds the prefix under which a network's NAT64 represents
// IPv4 addresses (PREF64): configured by hand, or advertised by routers (RFC
// 8781).
//
// A [Source] listens and says what it heard, one [Report] per message. A
// [Tracker], one per uplink, remembers what is valid, for how long and from
// whom, chooses one prefix, keeps to it as long as it is valid, and tells its
// owner only when the choice changes.
//
//	t := pref64.NewTracker(static, log)
//	defer t.Close()
//	src := pref64.NewRASource(uplinkIndex, log)
//	go src.Run(ctx, t.Apply)
//	for range t.Changed() {
//		obs, ok := t.Current()
//		...
//	}
//
// Everything that comes from the network is refused unless it is exactly
// right, under a named [Reason], in memory that does not grow. Router
// Advertisements are authenticated by nothing; who can send on the link can
// also send these, as it can send every other Router Advertisement.
//
// What it does not do: choose the interface, tell whether the NAT64 works, or
// ask DNS (RFC 7050).
package pref64
