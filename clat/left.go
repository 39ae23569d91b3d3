package clat

import (
	"maps"
	"net/netip"
	"time"
)

const (
	// leftFor is for how long an address that has served counts as just left:
	// the time of a restart, an upgrade or a walk between two access points.
	leftFor = time.Minute
	// maxLeft bounds how many are remembered.
	maxLeft = 64
)

// leftAddrs are the CLAT IPv6 addresses that served on a link until a moment ago,
// with the time when they were removed. One that comes back, on the same link and
// so on the same network as its prefix is the same, serves before duplicate
// address detection has ended, as an optimistic address (RFC 4429) does: the
// neighbours still know it, and nobody else is likely to have taken it since.
type leftAddrs map[JournalEntry]time.Time

// add notes that a was removed from a link.
func (l leftAddrs) add(link string, a netip.Addr, when time.Time) {
	maps.DeleteFunc(l, func(_ JournalEntry, t time.Time) bool { return time.Since(t) > leftFor })
	if len(l) < maxLeft {
		l[JournalEntry{link, a}] = when
	}
}

// has reports whether a left the link a moment ago.
func (l leftAddrs) has(link string, a netip.Addr) bool {
	t, ok := l[JournalEntry{link, a}]
	since := time.Since(t)
	return ok && since >= 0 && since <= leftFor
}

// forget forgets that a served: another host has it.
func (l leftAddrs) forget(link string, a netip.Addr) { delete(l, JournalEntry{link, a}) }

// Resume tells the Reconciler what CleanUp has removed: these addresses served
// until now.
func (r *Reconciler) Resume(removed []Leftover) {
	for _, l := range removed {
		if l.Served {
			r.left.add(l.Link, l.Addr, time.Now())
		}
	}
}
