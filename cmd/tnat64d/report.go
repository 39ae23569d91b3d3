package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/datapath"
	"tnat64d/internal/control"
	"tnat64d/siit"
)

// enter notes a new state of an uplink and logs it; the old one again is no
// news.
func (d *tnat64d) enter(u *uplink, n news) {
	if u.same(n) {
		return
	}
	u.note(n, time.Now())
	d.log.Log(context.Background(), n.level, n.message, append([]any{"iface", u.Name}, n.args...)...)
	d.changed()
}

// whyInDAD is the reason of a CLAT whose address is in DAD.
var whyInDAD = plan.Why{Reason: plan.InDAD, Text: "waiting for duplicate address detection"}

// report tells how far a pass has come with an uplink.
func (d *tnat64d) report(u *uplink, p clat.Progress) {
	want := u.want
	for _, w := range want.Warnings {
		if !slices.Contains(u.warnings, w) {
			d.log.Warn(w, "iface", u.Name)
		}
	}
	u.warnings = want.Warnings

	c := want.CLAT
	switch {
	case p == clat.Held:
		d.enter(u, news{state: control.Held, why: want.Why, level: slog.LevelInfo,
			message: "the network is gone; keeping the CLAT's interface for a while", args: []any{"reason", want.Why.Text}})
	case c == nil && want.Standby:
		d.enter(u, news{state: control.Standby, why: want.Why, level: slog.LevelInfo,
			message: "no CLAT", args: []any{"reason", want.Why.Text}})
	case c == nil:
		d.enter(u, news{state: control.Waiting, why: want.Why, level: slog.LevelInfo,
			message: "no CLAT", args: []any{"reason", want.Why.Text}})
	case p == clat.Pending:
		d.enter(u, news{state: control.Starting, why: whyInDAD, identity: identity{ipv6: c.IPv6}, level: slog.LevelInfo,
			message: "CLAT is starting", args: []any{"ipv6", c.IPv6, "reason", whyInDAD.Text}})
		return // not ready yet
	case p == clat.Moving:
		// Also while an address that was restored is in DAD: no news then.
		if u.identity.ipv6 != c.IPv6 || !u.identity.pref64.IsValid() {
			d.enter(u, news{state: control.Moving, why: whyInDAD, identity: identity{ipv6: c.IPv6}, level: slog.LevelInfo,
				message: "CLAT address is changing", args: []any{"ipv6", c.IPv6, "reason", whyInDAD.Text}})
		}
	case p == clat.Up:
		d.wasUp = true
		d.reportUp(u)
	}
	d.sayReady()
}

func (d *tnat64d) reportUp(u *uplink) {
	c := u.want.CLAT
	steering, by, queues, offloads := "", "", 0, ""
	if p := d.path.byName(c.TUN); p != nil {
		s := p.Status()
		steering, by, queues, offloads = s.Steering, s.Engine, s.Queues, s.Offloads
		if s.EngineWhy != "" {
			by += " (" + s.EngineWhy + ")"
		}
	}
	d.enter(u, news{
		state: control.Up, why: u.want.Why, level: slog.LevelInfo, message: "CLAT is up",
		identity: identity{c.IPv6, c.IPv4, c.PREF64.Prefix, c.MTU},
		args: []any{"pref64", c.PREF64.Prefix, "source", c.PREF64.Source, "ipv4", c.IPv4, "ipv6", c.IPv6, "mtu", int(c.MTU.IPv4()),
			"tun", c.TUN, "engine", by, "queues", queues, "offloads", offloads, "steering", steering},
	})
}

// none reports that there is no uplink at all.
func (d *tnat64d) none(why plan.Why) {
	if d.why != why {
		d.why = why
		d.log.Info("no CLAT", "reason", why.Text)
		d.changed()
	}
	d.sayReady()
}

// sayHow tells systemd in one line how things are.
func (d *tnat64d) sayHow() {
	var parts []string
	for _, u := range d.uplinks {
		switch c := u.want.CLAT; {
		case u.state == control.Up && c != nil:
			parts = append(parts, fmt.Sprintf("%s: CLAT is up, PREF64 %s, %s engine", u.Name, c.PREF64.Prefix, d.engineOf(c.TUN)))
		default:
			parts = append(parts, fmt.Sprintf("%s: %s", u.Name, u.why.Text))
		}
	}
	text := strings.Join(parts, "; ")
	if len(parts) == 0 {
		text = "no CLAT: " + d.why.Text
	}
	if text != d.told {
		d.told = text
		notify(d.log, "STATUS="+text)
	}
}

func (d *tnat64d) engineOf(tun string) string {
	if p := d.path.byName(tun); p != nil {
		return p.Status().Engine
	}
	return "no"
}

// sayReady tells systemd once that the start is over.
func (d *tnat64d) sayReady() {
	if !d.ready {
		d.ready = true
		notify(d.log, daemon.SdNotifyReady)
	}
}

// summary is the last line of a run.
func summary(all datapath.Stats) []any {
	s, k := all.User, all.Kernel
	errors := s.Errors4.Add(s.Errors6)
	to6, to4 := s.To6.Total(), s.To4.Total()
	kernel6, kernel4 := k.To6.Total(), k.To4.Total()
	args := []any{
		"packets_4to6", to6.Packets + kernel6.Packets, "bytes_4to6", to6.Bytes + kernel6.Bytes,
		"packets_6to4", to4.Packets + kernel4.Packets, "bytes_6to4", to4.Bytes + kernel4.Bytes,
		"by_kernel_engine", kernel6.Packets + kernel4.Packets,
		"icmp_errors_sent", errors.Sent, "icmp_errors_limited", errors.Limited,
		"write_errors", s.WriteErrors, "read_errors", s.ReadErrors,
	}
	var drops []string
	for r, n := range s.Drops {
		if n > 0 {
			drops = append(drops, fmt.Sprintf("%s=%d", siit.Reason(r), n))
		}
	}
	return append(args, "dropped", strings.Join(drops, " "))
}
