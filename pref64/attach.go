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
	number   int // of attachments so far
	since    time.Time
	heard    heard
	identity identity
	confirm  time.Time // end of waiting while identity is not settled; zero otherwise
	before   onLinks   // prefixes for addresses before it, while identity is not settled
	pref64   carriage
	without  time.Time // since when pref64 is notCarried
}

// heard says which Router Advertisements have come since the attachment.
type heard uint8

const (
	noRA heard = iota
	neighbourRA
	defaultRouterRA
)

// identity says whether the link is the network that it was before.
type identity uint8

const (
	settled    identity = iota // nothing that is stale is left
	unknown                    // no default router has been heard yet
	recognized                 // a router from before has been heard again; others may follow
)

// carriage says whether default routers advertise a usable PREF64.
type carriage uint8

const (
	undecided carriage = iota
	carried
	notCarried
)

// reattached returns the attachment that begins at now. onLink are the
// prefixes for addresses that have been advertised during a.
func (a attachment) reattached(onLink onLinks, now time.Time) attachment {
	before := a.before
	if a.heard != noRA {
		before = onLink
	}
	return attachment{number: a.number + 1, since: now, before: before, identity: unknown, confirm: now.Add(confirmWithin)}
}

// recognize reports whether ra comes from a router that advertised one of its
// prefixes for addresses before the attachment.
func (a *attachment) recognize(ra *RouterAdvertisement) bool {
	return slices.ContainsFunc(ra.Prefixes, func(p PrefixInfo) bool {
		return forAddresses(p) && slices.ContainsFunc(a.before, func(b onLink) bool {
			return b.prefix == p.Prefix && b.router == ra.Router
		})
	})
}

// settle takes in an advertisement of a default router, or, if ra is nil, that
// none has come in time. It returns which of what is stale has ended: all of
// it, or, on a recognized network, what that router no longer says. newNetwork
// says that the link is another network.
func (a *attachment) settle(ra *RouterAdvertisement) (over func(from netip.Addr) bool, newNetwork bool) {
	if ra != nil && (a.identity == recognized || a.recognize(ra)) {
		a.identity = recognized
		return func(from netip.Addr) bool { return from == ra.Router }, false
	}
	newNetwork = a.identity != recognized
	a.identity, a.confirm, a.before = settled, time.Time{}, nil
	return func(netip.Addr) bool { return true }, newNetwork
}

// carries notes at now whether default routers advertise a usable PREF64.
func (a *attachment) carries(yes bool, now time.Time) {
	switch {
	case yes:
		a.pref64 = carried
	case a.pref64 == carried:
		a.pref64, a.without = notCarried, now
	}
}
