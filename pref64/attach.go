package pref64

import (
	"net/netip"
	"slices"
	"time"
)

// confirmWithin is how long what was heard before an attachment is kept
// without a Router Advertisement that confirms it.
const confirmWithin = 5 * time.Second

// attachment is what is known of the link since it last got carrier.
type attachment struct {
	number       int // of attachments so far
	since        time.Time
	heardRA      bool // any
	heardDefault bool // of a default router
	onLink       []onLink

	// unsettled is until when it is open what of before is still true; zero:
	// it is settled. Entries and resolvers of before are stale. same says that
	// a router of before has been heard again.
	unsettled time.Time
	before    []onLink
	same      bool

	// carried says that routers advertise a usable PREF64; notCarried is when
	// it became clear that they do not. Zero: that is open.
	carried    bool
	notCarried time.Time
}

// attached tells the Tracker that the link has got carrier, perhaps that of
// another network. What was heard before is stale: it is used until the first
// Router Advertisement of a default router, or five seconds have passed
// without one, and is forgotten then unless the advertisement confirms it.
//
// An advertisement that comes from the same router as one before, with the
// same prefix for addresses, shows that the network is the same. Then only
// what this router no longer says is forgotten at once, and what others said
// when the five seconds are over, unless they say it again. Until then it
// comes after what this router says: word of a new network may be later than
// the first advertisement there, which then looks like one of before.
func (t *Tracker) attached() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	now := time.Now()
	before := t.link.before
	if t.link.heardRA {
		before = t.link.onLink
	}
	if t.link.same {
		// A router has been heard since, and nobody has confirmed these.
		t.entries = slices.DeleteFunc(t.entries, func(e entry) bool { return e.stale })
		t.resolvers = slices.DeleteFunc(t.resolvers, func(r resolver) bool { return r.stale })
	}
	t.link = attachment{number: t.link.number + 1, since: now, before: before, unsettled: now.Add(confirmWithin)}
	for i := range t.entries {
		t.entries[i].stale = t.entries[i].Origin != Static
	}
	for i := range t.resolvers {
		t.resolvers[i].stale = true
	}
	t.adopted = time.Time{} // it is not the network that flaps
	t.renewal = renewal{}
	t.update(now)
}

// settle judges what is stale by ra, which is of a default router and whose
// content has been taken in, or by the lack of one if it is nil.
func (t *Tracker) settle(ra *RouterAdvertisement) {
	t.link.same = t.link.same || ra != nil && slices.ContainsFunc(ra.Prefixes, func(p PrefixInfo) bool {
		return forAddresses(p) && slices.ContainsFunc(t.link.before, func(b onLink) bool {
			return b.prefix == p.Prefix && b.router == ra.Router
		})
	})
	over := func(stale bool, from netip.Addr) bool {
		return stale && (!t.link.same || ra == nil || from == ra.Router)
	}
	t.entries = slices.DeleteFunc(t.entries, func(e entry) bool {
		if e.Origin == DNS {
			return over(e.stale, netip.Addr{}) // also if its resolver is this router
		}
		return over(e.stale, e.Router)
	})
	t.resolvers = slices.DeleteFunc(t.resolvers, func(r resolver) bool { return over(r.stale, r.Router) })
	for i := range t.entries {
		// Resolvers are asked again soon, whatever routers say.
		t.entries[i].stale = t.entries[i].stale && t.entries[i].Origin == RA
	}
	if t.link.same && ra != nil {
		return
	}
	t.link.unsettled, t.link.before = time.Time{}, nil
	if t.link.same {
		return
	}
	t.doubts, t.inquiry.besides = nil, false
	t.routers.forget(t.link.since)
	if ra == nil || ra.MTU == 0 {
		t.mtu = 0
	}
}
