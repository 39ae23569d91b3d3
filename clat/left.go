package clat

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"tnat64d/clat/plan"
)

const (
	// leftFor is for how long an address that has served counts as just left:
	// the time of a restart, an upgrade or a walk between two access points.
	leftFor = time.Minute
	// maxLeft bounds how many are remembered.
	maxLeft = 64
)

// LeftAddrs are the CLAT IPv6 addresses that served on a link, or were in reserve
// past DAD, until a moment ago, with the time when they were removed. One that comes back, on the same link and
// so on the same network as its prefix is the same, serves before duplicate
// address detection has ended, as an optimistic address (RFC 4429) does: the
// neighbours still know it, and nobody else is likely to have taken it since.
type LeftAddrs map[JournalEntry]time.Time

// add notes that a was removed from a link.
func (l LeftAddrs) add(link string, a netip.Addr, when time.Time) {
	maps.DeleteFunc(l, func(_ JournalEntry, t time.Time) bool { return time.Since(t) > leftFor })
	if len(l) < maxLeft {
		l[JournalEntry{link, a}] = when
	}
}

// has reports whether a left the link a moment ago.
func (l LeftAddrs) has(link string, a netip.Addr) bool {
	t, ok := l[JournalEntry{link, a}]
	since := time.Since(t)
	return ok && since >= 0 && since <= leftFor
}

// recent lists those that left a moment ago, the last first.
func (l LeftAddrs) recent() []plan.Left {
	var es []JournalEntry
	for e := range l {
		if l.has(e.Link, e.Addr) {
			es = append(es, e)
		}
	}
	slices.SortFunc(es, func(a, b JournalEntry) int {
		return cmp.Or(l[b].Compare(l[a]), cmp.Compare(a.Link, b.Link), a.Addr.Compare(b.Addr))
	})
	var left []plan.Left
	for _, e := range es {
		left = append(left, plan.Left(e))
	}
	return left
}

// forget forgets that a served: another host has it.
func (l LeftAddrs) forget(link string, a netip.Addr) { delete(l, JournalEntry{link, a}) }

// Resume adds what CleanUp has removed: these addresses served until now.
func (l LeftAddrs) Resume(removed []Leftover) {
	for _, a := range removed {
		if a.Served {
			l.add(a.Link, a.Addr, time.Now())
		}
	}
}
