package pref64

import (
	"cmp"
	"net/netip"
)

// judge ranks the owner of an entry in a full table. Lower values are kept
// longer; age is the order in which owners were first heard.
type judge func(owner netip.Addr) (class, age int)

// share decides which entry of a full table is evicted: entries of default
// routers are kept longest, then those of owners with few entries, then those
// of owners that were heard early. Otherwise any station on the link could
// fill the tables and lock out the router.
type share struct {
	class int // 0 is kept longest
	count int // entries of the same owner, this one included
	age   int // order of first hearing, 0 the first
}

// worse is positive if an entry with the share a is evicted before one with b.
func (a share) worse(b share) int {
	return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.count, b.count), cmp.Compare(a.age, b.age))
}

// admit decides about an entry of newcomer for a table of n entries, at most
// maxAll and maxEach for each owner. It returns the index of the entry to
// evict, -1 if there is room, and whether the newcomer is admitted. owner
// returns the owner of an entry, or the zero Addr if it must not be evicted.
func admit(n, maxAll, maxEach int, owner func(int) netip.Addr, newcomer netip.Addr, judge judge) (evict int, ok bool) {
	counts := map[netip.Addr]int{}
	for i := range n {
		counts[owner(i)]++
	}
	if counts[newcomer] >= maxEach {
		return -1, false
	}
	if n < maxAll {
		return -1, true
	}
	of := func(a netip.Addr, count int) share {
		class, age := judge(a)
		return share{class, count, age}
	}
	worst, evict := of(newcomer, counts[newcomer]+1), -1
	for i := range n {
		o := owner(i)
		if !o.IsValid() || o == newcomer {
			continue
		}
		// Of an owner's entries the last is evicted.
		if s := of(o, counts[o]); s.worse(worst) > 0 || evict >= 0 && s.worse(worst) == 0 {
			worst, evict = s, i
		}
	}
	return evict, evict >= 0
}
