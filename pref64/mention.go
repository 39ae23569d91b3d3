package pref64

import (
	"net/netip"
	"slices"
	"time"
)

// mention says whether the router that advertised a prefix still does. A
// network may change its prefixes without deprecating the old ones first, for
// example when a home router restarts and its provider assigns others (RFC
// 8978). A prefix that its router no longer mentions is used only while there
// is no other. A router may spread its options over several advertisements
// (RFC 4861 section 6.2.3), so a single omission means nothing. A prefix is
// superseded if
//
//   - an advertisement of the router omits it and all its prefixes for
//     addresses are new, and its PREF64s if this is one: the network has been
//     renumbered; or
//   - several in a row, over a while, have others of the kind and not this one.
type mention struct {
	whole      bool      // heard in a whole advertisement, not only as an option that the kernel passed on
	missed     int       // advertisements in a row with others of the kind
	since      time.Time // of the first of them
	superseded bool
}

const (
	// supersededAfter is how many advertisements may omit a prefix, over
	// missedFor, in which a router sends more than one only if they are parts
	// of one (RFC 4861 section 10, MIN_DELAY_BETWEEN_RAS).
	supersededAfter = 2
	missedFor       = 3 * time.Second

	// Prefixes are superseded renumberBurst times at once and then once every
	// flapInterval: any station can forge advertisements of a router.
	renumberBurst = 4
)

// hear takes in an advertisement at now and reports whether the router should
// be asked for another one. mentioned says that this one has the prefix,
// renumbered that the network seems to be. limit paces superseding.
func (m *mention) hear(mentioned, renumbered bool, limit *pace, now time.Time) (ask bool) {
	switch {
	case mentioned:
		*m = mention{whole: true}
		return false
	case m.superseded:
		return false
	case !m.miss(renumbered, now):
		return true
	case now.Before(limit.ready()):
		return false
	}
	limit.take(now)
	m.superseded = true
	return true
}

// miss takes in an advertisement at now that omits the prefix, and reports
// whether that supersedes the prefix.
func (m *mention) miss(renumbered bool, now time.Time) bool {
	if m.missed == 0 {
		m.since = now
	}
	m.missed = min(m.missed+1, supersededAfter)
	return renumbered || m.missed >= supersededAfter && now.Sub(m.since) >= missedFor
}

// hearMentions notes which of the prefixes that the router of ra advertised
// before are in ra, and reports whether an omission calls for another
// advertisement. It must be called before the tables take in ra.
func (t *tables) hearMentions(ra *RouterAdvertisement, limit *pace, now time.Time) (ask bool) {
	var pref64, addresses []netip.Prefix
	for _, p := range ra.PREF64 {
		if p.Lifetime > 0 {
			pref64 = append(pref64, p.Prefix)
		}
	}
	for _, p := range ra.Prefixes {
		if forAddresses(p) && p.Preferred > 0 {
			addresses = append(addresses, p.Prefix)
		}
	}
	newPREF64, newAddresses := true, true
	for e := range t.prefixes.of(ra.Router) {
		newPREF64 = newPREF64 && !(e.mention.whole && slices.Contains(pref64, e.Prefix))
	}
	for o := range t.onLink.of(ra.Router) {
		newAddresses = newAddresses && !slices.Contains(addresses, o.prefix)
	}
	renumbered := len(addresses) > 0 && newAddresses
	if len(addresses) > 0 {
		for o := range t.onLink.of(ra.Router) {
			ask = o.mention.hear(slices.Contains(addresses, o.prefix), renumbered, limit, now) || ask
		}
	}
	if len(pref64) > 0 || renumbered {
		for e := range t.prefixes.of(ra.Router) {
			ask = e.mention.hear(slices.Contains(pref64, e.Prefix), renumbered && newPREF64, limit, now) || ask
		}
	}
	return ask
}
