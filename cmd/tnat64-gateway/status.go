package main

import (
	"cmp"
	"slices"

	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/internal/control"
	"tnat64d/plat"
	"tnat64d/plat/dns64"
	"tnat64d/siit"
)

// nat44Words are those of gateway.toml.
var nat44Words = []string{"masquerade", "pool", "none"}

func gatewayStatus(s plat.Status) control.Gateway {
	c := s.Config
	g := control.Gateway{
		Up: s.Path.Engine != "", TUN: c.TUN, Prefix: c.Prefix, Pool: c.Pool, NAT44: nat44Words[c.NAT44],
		Inside: c.Inside, Outside: s.Outside, MTU6: s.MTU6, MTU4: s.MTU4,
		Engine: s.Path.Engine, EngineWhy: s.Path.EngineWhy, Attached: s.Path.Steering, Queues: s.Path.Queues, Offloads: s.Path.Offloads,
		Maps:    control.Maps{Static: s.Table.Static, Dynamic: s.Table.Dynamic, Size: s.Table.Size},
		Traffic: []control.Traffic{},
	}
	if k := s.Conntrack; k != nil {
		g.Conntrack = &control.Conntrack{Entries: k.Entries, Max: k.Max, Dropped: k.Dropped, EarlyDropped: k.EarlyDropped}
	}
	for _, t := range []struct {
		direction, engine string
		counts            engine.Translated
	}{
		{"6to4", "kernel", s.Traffic.Kernel.To4.Translated}, {"6to4", "user", s.Traffic.User.To4},
		{"4to6", "kernel", s.Traffic.Kernel.To6.Translated}, {"4to6", "user", s.Traffic.User.To6},
	} {
		for protocol, n := range t.counts {
			if n.Packets > 0 {
				g.Traffic = append(g.Traffic, control.Traffic{
					Direction: t.direction, Engine: t.engine, Protocol: engine.Protocol(protocol).String(), Packets: n.Packets, Bytes: n.Bytes,
				})
			}
		}
	}
	for r, n := range s.Traffic.User.Drops {
		if n > 0 {
			g.Drops = append(g.Drops, control.Dropped{Reason: siit.Reason(r).String(), Explanation: siit.Reason(r).Explanation(), Packets: n})
		}
	}
	for r, n := range s.Traffic.Dropped {
		if why := steer.Drop(r); n > 0 {
			g.Drops = append(g.Drops, control.Dropped{Reason: why.String(), Explanation: why.Explanation(), Packets: n})
		}
	}
	for r := range steer.NumDeclined {
		if n := s.Traffic.Kernel.To6.Declined[r] + s.Traffic.Kernel.To4.Declined[r]; n > 0 {
			g.Decline = append(g.Decline, control.Dropped{Reason: r.String(), Explanation: r.Explanation(), Packets: n})
		}
	}
	for c, n := range s.NAT44 {
		if n > 0 {
			g.Drops = append(g.Drops, control.Dropped{Reason: string(c), Explanation: c.Explanation(), Packets: n})
		}
	}
	for _, list := range [][]control.Dropped{g.Drops, g.Decline} {
		slices.SortFunc(list, func(a, b control.Dropped) int {
			return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Reason, b.Reason))
		})
	}
	u := s.Traffic.User
	both := u.Errors4.Add(u.Errors6)
	g.Errors = control.ICMPErrors{
		Sent: both.Sent, Limited: both.Limited,
		IPv4: control.ICMPErrorsTo(u.Errors4), IPv6: control.ICMPErrorsTo(u.Errors6),
	}
	return g
}

// dns64Status returns nil for no DNS64.
func dns64Status(p *dnsPart) *control.DNS64 {
	if p == nil {
		return nil
	}
	stats := p.Stats()
	s := &control.DNS64{Listen: p.listen, Queries: []control.Queries{}, Cached: stats.Cached}
	for _, o := range dns64.Outcomes() {
		if n := stats.Outcomes[o]; n > 0 {
			s.Queries = append(s.Queries, control.Queries{Outcome: o.String(), Queries: n})
		}
	}
	slices.SortStableFunc(s.Queries, func(a, b control.Queries) int { return cmp.Compare(b.Queries, a.Queries) })
	return s
}

func advertiseStatus(p *advertisePart) (all []control.Advertising) {
	if p == nil {
		return nil
	}
	for _, a := range p.links {
		c := a.Counters()
		all = append(all, control.Advertising{
			Interface: a.Name(), Sent: c.Sent, Failed: c.Failed, Solicitations: c.Solicitations, Others: c.Others, Disagreements: c.Disagreements,
		})
	}
	return all
}
