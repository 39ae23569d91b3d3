package main

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/internal/config"
	"tnat64d/internal/control"
	"tnat64d/pref64"
	"tnat64d/siit"
)

// status is called in the loop. It reads what the last pass has reported, what
// discovery knows and the counters, and changes nothing.
func status(d *tnat64d) control.Status {
	s := control.Status{
		Version: version, Started: d.started.Round(0).Add(d.clock), Config: d.inForce, Enable: enableWord(d.conf.CLAT.Enable),
		Uplinks: []control.Uplink{}, Missing: slices.Clone(d.report.missing), Features: slices.Clone(d.features),
	}
	if len(d.uplinks) == 0 {
		s.Reason, s.Why = d.report.why.Reason.String(), d.report.why.Text
	}
	for _, u := range d.uplinks {
		s.Uplinks = append(s.Uplinks, uplinkStatus(u, d.found.links[u.Index], d.path))
	}
	return s
}

func enableWord(e config.Enable) string {
	return map[config.Enable]string{config.Auto: "auto", config.Always: "always", config.Never: "never"}[e]
}

func uplinkStatus(u *uplink, l *discovery, paths *datapaths) control.Uplink {
	s := control.Uplink{
		Name: u.Name, Index: u.Index, State: u.state, Since: u.since, Reason: u.why.Reason.String(), Why: u.why.Text,
		History: slices.Clone(u.history),
	}
	for _, w := range u.want.Warnings {
		s.Warnings = append(s.Warnings, w.Text)
		s.WarningReasons = append(s.WarningReasons, w.Kind.String())
	}
	if l != nil {
		known := l.finder.Snapshot()
		for _, p := range known.Candidates {
			s.PREF64 = append(s.PREF64, prefixStatus(p, u))
		}
		s.Resolvers, s.Discovery = known.Resolvers, known.Discovery
		for _, ig := range known.Ignored {
			s.Ignored = append(s.Ignored, ignoredStatus(ig))
		}
	}
	switch u.state {
	case control.Up, control.Moving, control.Held, control.Failed: // failed in part
		s.CLAT = clatStatus(u, paths)
	case control.Standby:
		s.StandbyIPv6 = address(u.want.Reserve)
	}
	return s
}

func prefixStatus(p pref64.Observation, u *uplink) control.PREF64 {
	s := control.PREF64{
		Prefix: p.Prefix, Source: p.Origin.String(), From: address(p.Router), Doubted: p.Doubted, Remembered: p.Remembered,
		InUse: u.want.CLAT != nil && u.want.CLAT.PREF64.Prefix == p.Prefix,
	}
	if !p.Expires.IsZero() {
		// By the monotonic clock, whatever the other one was when it was heard.
		expires := time.Now().Add(time.Until(p.Expires))
		s.Expires = &expires
	}
	return s
}

func ignoredStatus(ig pref64.Ignored) control.Ignored {
	s := control.Ignored{
		Reason: ig.Reason.String(), Explanation: ig.Reason.Explanation(),
		From: address(ig.Router), Count: ig.Count, Last: ig.Last,
	}
	if ig.Prefix.IsValid() {
		s.Prefix = &ig.Prefix
	}
	return s
}

// address makes the zero Addr absent in JSON.
func address(a netip.Addr) *netip.Addr {
	if !a.IsValid() {
		return nil
	}
	return &a
}

func flowsStatus(f steer.Flows) *control.Flows {
	s := &control.Flows{Recovered: f.Recovered}
	for t, n := range f.Tables {
		s.Tables = append(s.Tables, control.FlowTable{
			Table: steer.FlowTable(t).String(), Flows: n.Now, OtherPort: n.OtherPort, Evicted: n.Evicted,
		})
	}
	return s
}

// clatStatus returns nil if the CLAT is on its way down.
func clatStatus(u *uplink, paths *datapaths) *control.CLAT {
	c := u.running
	if c == nil {
		return nil
	}
	p := paths.byName(c.TUN)
	if p == nil {
		return nil
	}
	now, all := p.Status(), p.Stats()
	s := &control.CLAT{
		TUN: c.TUN, IPv4: c.IPv4, IPv6: c.IPv6, Shared: c.Shared, MTU4: int(c.MTU.IPv4()), MTU6: int(c.MTU), Metric: c.Metric,
		Engine: now.Engine, EngineWhy: now.EngineWhy, Steering: now.Steering,
		Queues: now.Queues, Offloads: now.Offloads,
		PLAT:    control.PLAT{State: u.plat.state, Since: u.plat.since},
		Traffic: []control.Traffic{},
	}
	s.NextIPv6 = address(now.Next)
	switch {
	case u.plat.state == control.PLATSilent:
		s.PLAT.Reason, s.PLAT.Why = platSilent.String(), platSilent.explanation()
	case u.plat.unsure:
		s.PLAT.Reason, s.PLAT.Why = platUnsure.String(), platUnsure.explanation()
	}
	for _, n := range c.Translation.Mapping.Networks {
		pref64 := "none"
		if n.PREF64.IsValid() {
			pref64 = n.PREF64.String()
		}
		s.Networks = append(s.Networks, control.Network{Network: n.IPv4, PREF64: pref64})
	}
	if c.Shared {
		s.Flows = flowsStatus(p.Flows())
	}
	s.Routes, s.RoutesFollowed = routesStatus(paths.handle, now.Routes), len(now.Routes)
	for _, t := range []struct {
		direction, engine string
		counts            engine.Translated
	}{
		{"4to6", "kernel", all.Kernel.To6.Translated}, {"4to6", "user", all.User.To6},
		{"6to4", "kernel", all.Kernel.To4.Translated}, {"6to4", "user", all.User.To4},
	} {
		for protocol, n := range t.counts {
			if n.Packets > 0 {
				s.Traffic = append(s.Traffic, control.Traffic{
					Direction: t.direction, Engine: t.engine, Protocol: engine.Protocol(protocol).String(), Packets: n.Packets, Bytes: n.Bytes,
				})
			}
		}
	}
	for r, n := range all.User.Drops {
		if n > 0 {
			s.Drops = append(s.Drops, control.Dropped{Reason: siit.Reason(r).String(), Explanation: siit.Reason(r).Explanation(), Packets: n})
		}
	}
	for r, n := range all.Dropped {
		if why := steer.Drop(r); n > 0 {
			s.Drops = append(s.Drops, control.Dropped{Reason: why.String(), Explanation: why.Explanation(), Packets: n})
		}
	}
	for r := range steer.NumDeclined {
		if n := all.Kernel.To6.Declined[r] + all.Kernel.To4.Declined[r]; n > 0 {
			s.Decline = append(s.Decline, control.Dropped{Reason: r.String(), Explanation: r.Explanation(), Packets: n})
		}
	}
	for _, list := range [][]control.Dropped{s.Drops, s.Decline} {
		slices.SortStableFunc(list, func(a, b control.Dropped) int { return cmp.Compare(b.Packets, a.Packets) })
	}
	both := all.User.Errors4.Add(all.User.Errors6)
	s.Errors = control.ICMPErrors{
		Sent: both.Sent, Limited: both.Limited,
		IPv4: control.ICMPErrorsTo(all.User.Errors4), IPv6: control.ICMPErrorsTo(all.User.Errors6),
	}
	s.IO = control.IOErrors{Read: all.User.ReadErrors, Write: all.User.WriteErrors}
	return s
}
