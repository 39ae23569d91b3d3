package pref64

import (
	"iter"
	"net/netip"
	"slices"
	"time"
)

// A link has one PREF64, rarely two or three. More than maxPrefixes advertised
// ones are an accident or an attack; at most maxPerRouter come from one router,
// so that it cannot lock out the others.
const (
	maxPrefixes  = 16
	maxPerRouter = 8
)

// prefixes is the table of known PREF64s, in the order of arrival. A prefix has
// an entry for each router or resolver that names it.
type prefixes []entry

type entry struct {
	Observation
	heard    time.Time // last
	byRouter bool      // Router was a default router when it last advertised the prefix
	mention  mention
	inRA     bool // overlapped an on-link prefix of the RA that it last came in
	stale    bool // heard before the present attachment
}

// index returns the index of the entry of the prefix, origin and router of o, or -1.
func (ps prefixes) index(o Observation) int {
	return slices.IndexFunc(ps, func(e entry) bool {
		return e.Prefix == o.Prefix && e.Origin == o.Origin && e.Router == o.Router
	})
}

// of returns an iterator over the entries that router has advertised.
func (ps prefixes) of(router netip.Addr) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for i := range ps {
			if ps[i].Origin == RA && ps[i].Router == router && !yield(&ps[i]) {
				return
			}
		}
	}
}

// place makes room for o and returns the index of its entry, or -1 if the
// table is full of better ones. Entries of the configuration do not count, and
// that of inUse is not evicted.
func (ps *prefixes) place(o, inUse Observation, judge judge) int {
	if o.Origin != Static {
		var at []int // of the entries that are not static
		for i, e := range *ps {
			if e.Origin != Static {
				at = append(at, i)
			}
		}
		evict, ok := admit(len(at), maxPrefixes, maxPerRouter, func(i int) netip.Addr {
			if e := (*ps)[at[i]]; e.Prefix != inUse.Prefix || e.Router != inUse.Router {
				return e.Router
			}
			return netip.Addr{}
		}, o.Router, judge)
		switch {
		case !ok:
			return -1
		case evict >= 0:
			*ps = slices.Delete(*ps, at[evict], at[evict]+1)
		}
	}
	*ps = append(*ps, entry{})
	return len(*ps) - 1
}

// drop removes the entries for which gone is true.
func (ps *prefixes) drop(gone func(entry) bool) { *ps = slices.DeleteFunc(*ps, gone) }

// dropDNS removes what DNS has said.
func (ps *prefixes) dropDNS() { ps.drop(func(e entry) bool { return e.Origin == DNS }) }

// next returns when the next lifetime ends; zero: never.
func (ps prefixes) next() (at time.Time) {
	for _, e := range ps {
		at = earlier(at, e.Expires)
	}
	return at
}
