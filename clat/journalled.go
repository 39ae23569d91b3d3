package clat

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tnat64d/clat/plan"
)

// journalled is what the journal records.
type journalled struct {
	entries []JournalEntry
	changes []plan.SysctlChange
	routes  []plan.SavedRoute
	stopped time.Time // when routes ceased to be in force; zero: they were until a kill
}

// parse takes in the words of a line.
func (j *journalled) parse(f []string) {
	switch {
	case len(f) == 3 && (f[0] == "add" || f[0] == "del"):
		if a, err := netip.ParseAddr(f[2]); err == nil {
			j.note(f[0], JournalEntry{Link: f[1], Addr: a})
		}
	case len(f) == 5 && f[0] == "set":
		was, err1 := strconv.Atoi(f[3])
		is, err2 := strconv.Atoi(f[4])
		if s := (plan.Sysctl{Link: f[1], Key: f[2]}); err1 == nil && err2 == nil && s.Valid() {
			j.noteChange(plan.SysctlChange{Sysctl: s, Was: was, Is: is})
		}
	case len(f) > 0 && f[0] == "route":
		if s, err := parseSavedRoute(f[1:]); err == nil && len(j.routes) < maxSaved {
			j.routes = append(j.routes, s)
		}
	case len(f) == 2 && f[0] == "stopped":
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			j.stopped = time.Unix(n, 0)
		}
	case len(f) == 3 && f[0] == "unset":
		j.forget(plan.Sysctl{Link: f[1], Key: f[2]})
	}
}

func (j *journalled) note(op string, e JournalEntry) {
	at := slices.Index(j.entries, e)
	switch {
	case op == "add" && at < 0:
		j.entries = append(j.entries, e)
	case op == "del" && at >= 0:
		j.entries = slices.Delete(j.entries, at, at+1)
	}
}

func (j *journalled) noteChange(c plan.SysctlChange) {
	j.forget(c.Sysctl)
	j.changes = append(j.changes, c)
}

func (j *journalled) forget(s plan.Sysctl) {
	j.changes = slices.DeleteFunc(j.changes, func(c plan.SysctlChange) bool { return c.Sysctl == s })
}

// text is the shortest file that says what is in force.
func (j *journalled) text() (b []byte) {
	for _, e := range j.entries {
		b = fmt.Appendf(b, "add %s %s\n", e.Link, e.Addr)
	}
	for _, c := range j.changes {
		b = fmt.Appendf(b, "set %s %s %d %d\n", c.Link, c.Key, c.Was, c.Is)
	}
	for _, s := range j.routes {
		b = fmt.Appendf(b, "route %s\n", strings.Join(savedRouteFields(s), " "))
	}
	if !j.stopped.IsZero() {
		b = fmt.Appendf(b, "stopped %d\n", j.stopped.Unix())
	}
	return b
}

func (j *journalled) empty() bool {
	return len(j.entries) == 0 && len(j.changes) == 0 && len(j.routes) == 0
}
