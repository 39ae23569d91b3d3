package pref64

import (
	"cmp"
	"net/netip"
)

// share is what decides who keeps a place in a full table of things that
// several routers have said: a default router's things stay rather than
// others', then those of who has said least, then those of who was heard
// first. Otherwise any station on the link could fill the tables and lock out
// the router.
type share struct {
	class int // 0 is kept longest
	count int // things in the table of the same origin, this one included
	age   int // order of first hearing, 0 the first
}

// worse is positive if a thing with the share a goes before one with b.
func (a share) worse(b share) int {
	return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.count, b.count), cmp.Compare(a.age, b.age))
}

// admit decides about a newcomer to a table of n things. It returns the index
// of the thing that has to go for it, -1 if none has to, and whether it is
// taken at all. owner names who said the thing, or is invalid if it is never
// evicted; class and age judge owners.
func admit(n, maxAll, maxEach int, owner func(int) netip.Addr, newcomer netip.Addr, judge func(netip.Addr) (class, age int)) (evict int, ok bool) {
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
		// Of one owner's things the last goes.
		if s := of(o, counts[o]); s.worse(worst) > 0 || evict >= 0 && s.worse(worst) == 0 {
			worst, evict = s, i
		}
	}
	return evict, evict >= 0
}
