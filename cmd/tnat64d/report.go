package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"

	"tnat64d/clat"
	"tnat64d/siit"
)

// state is what the log last said about the CLAT. A line is written when it
// changes, and not otherwise.
type state struct {
	kind   string // "up", "moving", "pending", "down", "failed"
	iface  string
	reason string
	clat   string // addresses, PREF64, MTU
}

// enter notes a new state and logs it, if it is new.
func (d *tnat64d) enter(s state, level slog.Level, msg string, args ...any) {
	if s == d.state {
		return
	}
	d.state = s
	if s.iface != "" {
		args = append([]any{"iface", s.iface}, args...)
	}
	d.log.Log(context.Background(), level, msg, args...)
	notify(d.log, status(msg+words(args)))
}

// words puts the values of log arguments behind a status line.
func words(args []any) string {
	var b strings.Builder
	for i := 0; i+1 < len(args); i += 2 {
		fmt.Fprintf(&b, ", %v %v", args[i], args[i+1])
	}
	return b.String()
}

// report tells the log and systemd how far a pass has come.
func (d *tnat64d) report(p clat.Progress, want clat.Desired) {
	for _, w := range want.Warnings {
		if !slices.Contains(d.warnings, w) {
			d.log.Warn(w, "iface", want.Uplink.Name)
		}
	}
	d.warnings = want.Warnings

	c := want.CLAT
	switch {
	case c == nil:
		d.enter(state{kind: "down", iface: want.Uplink.Name, reason: want.Why}, slog.LevelInfo, "no CLAT", "reason", want.Why)
	case p == clat.Pending:
		const why = "waiting for duplicate address detection"
		d.enter(state{kind: "pending", iface: c.Uplink.Name, clat: c.IPv6.String()}, slog.LevelInfo, "CLAT is starting", "ipv6", c.IPv6, "reason", why)
		return // not ready yet
	case p == clat.Moving:
		// Also while an address that was put back is in DAD: no news then.
		if !strings.HasPrefix(d.state.clat, c.IPv6.String()+" ") {
			d.enter(state{kind: "moving", iface: c.Uplink.Name, clat: c.IPv6.String()}, slog.LevelInfo, "CLAT address is changing", "ipv6", c.IPv6, "reason", "waiting for duplicate address detection")
		}
	case p == clat.Up:
		d.wasUp = true
		steering, by := d.path.info.Steering, d.path.info.Engine
		if c.Forwarding != nil {
			steering, by = "none (kernel forwarding)", "user (BPF is refused)"
		}
		addresses := fmt.Sprintf("%s %s %s %d", c.IPv6, c.IPv4, c.PREF64.Prefix, c.MTU)
		d.enter(state{kind: "up", iface: c.Uplink.Name, clat: addresses}, slog.LevelInfo, "CLAT is up",
			"pref64", c.PREF64.Prefix, "source", c.PREF64.Source, "ipv4", c.IPv4, "ipv6", c.IPv6, "mtu", int(c.MTU.IPv4()),
			"tun", c.TUN, "engine", by, "queues", d.path.info.Queues, "offloads", d.path.info.Offloads, "steering", steering)
	}
	d.sayReady()
}

// sayReady tells systemd once that the start is over.
func (d *tnat64d) sayReady() {
	if !d.ready {
		d.ready = true
		notify(d.log, daemon.SdNotifyReady)
	}
}

// summary is the last line of a run.
func summary(all stats) []any {
	s, k := all.user, all.kernel
	to6, to4 := s.To6.Total(), s.To4.Total()
	args := []any{
		"packets_4to6", to6.Packets + k.to6.packets, "bytes_4to6", to6.Bytes + k.to6.bytes,
		"packets_6to4", to4.Packets + k.to4.packets, "bytes_6to4", to4.Bytes + k.to4.bytes,
		"by_kernel_engine", k.to6.packets + k.to4.packets,
		"icmp_errors_sent", s.Replies, "icmp_errors_limited", s.RateLimited,
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
