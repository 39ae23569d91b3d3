package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/datapath"
	"tnat64d/internal/control"
	"tnat64d/internal/daemon"
	"tnat64d/internal/say"
	"tnat64d/siit"
)

// reporter tells people what has changed: the log, systemd, and those who watch
// the control socket.
type reporter struct {
	log    *slog.Logger
	start  *daemon.Startup
	paths  *datapaths
	server *control.Server // nil: there is no socket

	why     plan.Why // there is no uplink
	missing []string // configured uplinks that do not exist
	told    string   // systemd's STATUS
	wasUp   bool     // a CLAT has been up since the start
}

// changed tells those who watch that something is new.
func (r *reporter) changed() { r.server.Changed() }

// enter notes a new state of an uplink and logs it; the old one again is no
// news.
func (r *reporter) enter(u *uplink, n news) {
	if u.same(n) {
		return
	}
	u.note(n, time.Now())
	r.log.Log(context.Background(), n.level, n.message, append([]any{"iface", u.Name}, n.args...)...)
	r.changed()
}

// whyInDAD is the reason of a CLAT whose address is in DAD.
var whyInDAD = plan.Why{Reason: plan.InDAD, Text: "waiting for duplicate address detection"}

// progress tells how far a pass has come with an uplink.
func (r *reporter) progress(u *uplink, p clat.Progress) {
	want := u.want
	for _, w := range want.Warnings {
		if !slices.ContainsFunc(u.warnings, w.Same) {
			r.log.Warn(w.Text, "iface", u.Name)
		}
	}
	u.warnings = want.Warnings

	c := want.CLAT
	switch {
	case p == clat.Held:
		r.enter(u, news{state: control.Held, why: want.Why, level: slog.LevelInfo,
			message: "the network is gone; keeping the CLAT's interface for a while", args: []any{"reason", want.Why.Text}})
	case c == nil && want.Standby:
		r.enter(u, news{state: control.Standby, why: want.Why, level: slog.LevelInfo,
			message: "no CLAT", args: []any{"reason", want.Why.Text}})
	case c == nil:
		r.enter(u, news{state: control.Waiting, why: want.Why, level: slog.LevelInfo,
			message: "no CLAT", args: []any{"reason", want.Why.Text}})
	case p == clat.Pending:
		r.enter(u, news{state: control.Starting, why: whyInDAD, identity: identity{ipv6: c.IPv6}, level: slog.LevelInfo,
			message: "CLAT is starting", args: []any{"ipv6", c.IPv6, "reason", whyInDAD.Text}})
		return // not ready yet
	case p == clat.Moving:
		// Also while an address that was restored is in DAD: no news then.
		if u.identity.ipv6 != c.IPv6 || !u.identity.pref64.IsValid() {
			r.enter(u, news{state: control.Moving, why: whyInDAD, identity: identity{ipv6: c.IPv6}, level: slog.LevelInfo,
				message: "CLAT address is changing", args: []any{"ipv6", c.IPv6, "reason", whyInDAD.Text}})
		}
	case p == clat.Up:
		r.wasUp = true
		r.reportUp(u)
	}
	r.sayReady()
}

func (r *reporter) reportUp(u *uplink) {
	c := u.want.CLAT
	steering, by, queues, offloads := "", "", 0, ""
	if p := r.paths.byName(c.TUN); p != nil {
		s := p.Status()
		steering, by, queues, offloads = s.Steering, s.Engine, s.Queues, s.Offloads
		if s.EngineWhy != "" {
			by += " (" + s.EngineWhy + ")"
		}
	}
	r.enter(u, news{
		state: control.Up, why: u.want.Why, level: slog.LevelInfo, message: "CLAT is up",
		identity: identity{c.IPv6, c.IPv4, c.PREF64.Prefix, c.MTU},
		args: []any{"pref64", c.PREF64.Prefix, "source", c.PREF64.Source, "ipv4", c.IPv4, "ipv6", c.IPv6, "mtu", int(c.MTU.IPv4()),
			"tun", c.TUN, "engine", by, "queues", queues, "offloads", offloads, "steering", steering},
	})
}

// failure reports that a step has failed on an uplink whose CLAT has the TUN of that
// name, and returns the error in words.
func (r *reporter) failure(u *uplink, message string, err error, tun string) error {
	reason, explained := explain(err, tun)
	args := []any{"reason", explained}
	if f := (*say.Failure)(nil); mayPass(err) && errors.As(explained, &f) {
		args = append(args, "hint", f.Hint)
	}
	r.enter(u, news{
		state: control.Failed, why: plan.Why{Reason: reason, Text: explained.Error()}, level: slog.LevelError,
		message: message, args: args,
	})
	return explained
}

// none reports that there is no uplink at all.
func (r *reporter) none(why plan.Why) {
	if r.why != why {
		r.why = why
		r.log.Info("no CLAT", "reason", why.Text)
		r.changed()
	}
	r.sayReady()
}

// sayHow tells systemd in one line how things are.
func (r *reporter) sayHow(us []*uplink) {
	var parts []string
	for _, u := range us {
		switch c := u.want.CLAT; {
		case u.state == control.Up && c != nil:
			parts = append(parts, fmt.Sprintf("%s: CLAT is up, PREF64 %s, %s engine", u.Name, c.PREF64.Prefix, r.engineOf(c.TUN)))
		default:
			parts = append(parts, fmt.Sprintf("%s: %s", u.Name, u.why.Text))
		}
	}
	text := strings.Join(parts, "; ")
	if len(parts) == 0 {
		text = "no CLAT: " + r.why.Text
	}
	if text != r.told {
		r.told = text
		daemon.Notify(r.log, "STATUS="+text)
	}
}

func (r *reporter) engineOf(tun string) string {
	if p := r.paths.byName(tun); p != nil {
		return p.Status().Engine
	}
	return "no"
}

// sayReady tells systemd once that the start is over.
func (r *reporter) sayReady() {
	if !r.start.Over() {
		r.start.Ready()
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
