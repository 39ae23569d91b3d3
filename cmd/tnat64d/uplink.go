package main

import (
	"log/slog"
	"net/netip"
	"time"

	"tnat64d/clat/plan"
	"tnat64d/internal/control"
)

// uplink is what the daemon remembers of a link that is an uplink, or was one
// a moment ago.
type uplink struct {
	plan.Uplink
	want    plan.Desired // of the last pass
	running *plan.CLAT   // the last one that was wanted

	state    control.State
	why      plan.Why
	identity identity // of the CLAT that was last reported
	since    time.Time
	history  []control.Change
	warnings []plan.Warning // those that the log has

	failures int          // in a row
	attempt  plan.Attempt // that failed last; zero: none
	again    time.Time    // it is not repeated before

	plat     platWatch
	judged   platPath // that plat judges
	evidence evidence
	noted    time.Time // when evidence was last gathered
	askedDNS bool      // a silent PLAT has DNS asked besides routers
}

// identity is what of a CLAT is worth another line in the log when it changes.
// While its address is in DAD only that is set.
type identity struct {
	ipv6, ipv4 netip.Addr
	pref64     netip.Prefix
	mtu        plan.MTU6
}

// historyLength is how many changes an uplink remembers.
const historyLength = 20

// news is a change of state in words.
type news struct {
	state    control.State
	why      plan.Why
	identity identity
	level    slog.Level
	message  string // of the log
	args     []any
}

// same reports whether there is nothing new in n.
func (u *uplink) same(n news) bool {
	return u.state == n.state && u.why == n.why && u.identity == n.identity
}

// note makes n the present state.
func (u *uplink) note(n news, now time.Time) {
	if u.state != n.state {
		u.since = now
	}
	u.state, u.why, u.identity = n.state, n.why, n.identity
	if len(u.history) == historyLength {
		u.history = append(u.history[:0], u.history[1:]...)
	}
	u.history = append(u.history, control.Change{Time: now, State: n.state, Reason: n.why.Reason.String(), Why: n.why.Text})
}

// follow makes d.uplinks those of the plan, in its order.
func (d *tnat64d) follow(plans plan.Plan) {
	before := map[plan.Uplink]*uplink{}
	for _, u := range d.uplinks {
		before[u.Uplink] = u
	}
	var now []*uplink
	for _, want := range plans.Uplinks {
		u := before[want.Uplink]
		if u == nil {
			u = &uplink{Uplink: want.Uplink, since: time.Now()}
		}
		delete(before, want.Uplink)
		u.want = want
		now = append(now, u)
	}
	if len(now) != len(d.uplinks) || len(before) > 0 {
		d.report.changed()
	}
	for _, gone := range before {
		d.log.Info("no uplink any more", "iface", gone.Name)
	}
	d.uplinks = now
}
