package config

import (
	"net/netip"

	"tnat64d/siit"
)

// Translator returns the configuration of a CLAT's translator: what the file
// decides, and with it what is known only at run time or must be there for
// offline use, namely the PREF64 in use, the CLAT's own pair of addresses and
// its IPv4 MTU in bytes. What is zero stays zero, to be filled in later.
//
// The limit on ICMP errors is not part of it: the translator makes every
// error, and whoever sends them counts.
func (c Config) Translator(pref64 netip.Prefix, clat siit.Pair, mtu4 int) siit.Config {
	t := c.Translation
	eam := make([]siit.EAM, len(t.EAM))
	for i, m := range t.EAM {
		eam[i] = siit.EAM{IPv4: m.IPv4, IPv6: m.IPv6}
	}
	var networks []siit.Network
	for _, r := range c.CLAT.Routes {
		networks = append(networks, siit.Network{IPv4: r.Network, PREF64: r.PREF64})
	}
	mtu6 := 0
	if mtu4 > 0 {
		mtu6 = mtu4 + 20
	}
	return siit.Config{
		Mapping:             siit.Mapping{PREF64: pref64, CLAT: clat, EAM: eam, Networks: networks},
		MTU6:                mtu6,
		MTU4:                mtu4,
		LowestIPv6MTU:       t.LowestIPv6MTU,
		ICMPSource4:         otherThan(t.ICMPSource, clat.IPv4),
		ICMPSource6:         clat.IPv6,
		ZeroTrafficClass:    t.TrafficClass == ZeroClass,
		ZeroTOS:             t.TOS == ZeroClass,
		DropUDPZeroChecksum: t.UDPZeroChecksum == DropZeroChecksum,
		DropWKPPrivate:      t.WKPPrivate == DropPrivate,
		NodeID:              t.NodeID,
	}
}

// otherThan returns source, or if the CLAT itself has got it an address of
// 192.0.0.0/29 beside it: an error that seems to come from the host itself
// would not show in traceroute.
func otherThan(source, clat netip.Addr) netip.Addr {
	if source != clat {
		return source
	}
	if next := source.Next(); next != siit.DummyIPv4 {
		return next
	}
	return source.Prev()
}
