package datapath

import (
	"net/netip"

	"tnat64d/datapath/steer"
	"tnat64d/datapath/steernft"
)

// nftSteering steers by nftables. User space translates all packets.
type nftSteering struct{ *steernft.Steering }

func (n nftSteering) takesHop() bool { return n.TakesHop() }

func (n nftSteering) SetGuarded(g steer.Guarded) error {
	return n.Steering.SetGuarded(g.IPv4, g.IPv6)
}

// follow gives every rule one next hop: the one that the kernel chooses now.
func (n nftSteering) follow(r routesToPLAT) error {
	hop, err := r.nextHop()
	if err != nil {
		return err
	}
	hops := []steernft.NextHop{{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Via: hop}}
	for _, in := range r.inside {
		if in.Action.Rejects() {
			continue // user space answers
		}
		hops = append(hops, steernft.NextHop{Prefix: in.Prefix, Link: in.Link, Via: in.Gateway})
	}
	return n.SetNextHops(hops)
}

func (n nftSteering) stats() (s Stats) {
	if c, err := n.Counters(); err == nil {
		s.Dropped = nftDrops(c)
	}
	return s
}

func nftDrops(c steernft.Counters) (d Drops) {
	d[steer.ForeignSource] = c[steernft.ForeignSource]
	d[steer.UntranslatedIPv4] = c[steernft.UntranslatedIPv4]
	d[steer.BoundSource] = c[steernft.BoundSource]
	d[steer.StrayIPv4] = c[steernft.StrayIPv4]
	d[steer.UnicastToMany] = c[steernft.UnicastToMany]
	return d
}
