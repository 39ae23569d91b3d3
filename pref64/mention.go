package pref64

import (
	"net/netip"
	"slices"
	"time"
)

// mention says whether the router that advertised a prefix still does. A
// network may change its prefixes without deprecating the old ones first, for
// example when a home router restarts and its provider gives it others (RFC
// 8978). What its router no longer mentions is then used only while there is
// nothing else. A router may spread its options over several advertisements
// (RFC 4861 section 6.2.3), so silence alone means nothing. A prefix is
// superseded if
//
//   - an advertisement of the router leaves it out and all its prefixes for
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
	// supersededAfter is how many advertisements may leave a prefix out, over
	// missedFor, in which a router sends more than one only if they are parts
	// of one (RFC 4861 section 10, MIN_DELAY_BETWEEN_RAS).
	supersededAfter = 2
	missedFor       = 3 * time.Second

	// Prefixes are superseded renumberBurst times at once and then once every
	// flapInterval: anybody can speak in the name of a router.
	renumberBurst = 4
)

// miss takes in an advertisement at now that leaves the prefix out, and reports
// whether the prefix is superseded by it.
func (m *mention) miss(renumbered bool, now time.Time) bool {
	if m.missed == 0 {
		m.since = now
	}
	m.missed = min(m.missed+1, supersededAfter)
	return renumbered || m.missed >= supersededAfter && now.Sub(m.since) >= missedFor
}

// hearMentions notes which prefixes ra mentions of those that its router has
// advertised before, and reports whether one that is left out calls for another
// advertisement. It must be called before what ra says is taken in.
func (t *Tracker) hearMentions(ra *RouterAdvertisement, now time.Time) (ask bool) {
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
	newPREF64 := !slices.ContainsFunc(t.entries, func(e entry) bool {
		return e.Origin == RA && e.Router == ra.Router && e.mention.whole && slices.Contains(pref64, e.Prefix)
	})
	newAddresses := !slices.ContainsFunc(t.link.onLink, func(o onLink) bool {
		return o.router == ra.Router && slices.Contains(addresses, o.prefix)
	})
	hear := func(m *mention, mentioned, renumbered bool) {
		switch {
		case mentioned:
			*m = mention{whole: true}
		case m.superseded:
		case !m.miss(renumbered, now):
			ask = true
		case now.Before(t.renumbered.Add(-(renumberBurst - 1) * flapInterval)):
		default:
			t.renumbered = later(t.renumbered, now).Add(flapInterval)
			m.superseded, ask = true, true
		}
	}
	renumbered := len(addresses) > 0 && newAddresses
	if len(addresses) > 0 {
		for i := range t.link.onLink {
			if o := &t.link.onLink[i]; o.router == ra.Router {
				hear(&o.mention, slices.Contains(addresses, o.prefix), renumbered)
			}
		}
	}
	if len(pref64) > 0 || renumbered {
		for i := range t.entries {
			if e := &t.entries[i]; e.Origin == RA && e.Router == ra.Router {
				hear(&e.mention, slices.Contains(pref64, e.Prefix), renumbered && newPREF64)
			}
		}
	}
	return ask
}

// Unreachable says that neighbour unreachability detection no longer finds a
// router (RFC 4861 section 7.3). Until it speaks again, what it has advertised
// is used only while there is nothing else.
func (t *Tracker) Unreachable(router netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	for i := range t.entries {
		if e := &t.entries[i]; e.Origin == RA && e.Router == router {
			e.mention.superseded = true
		}
	}
	for i := range t.link.onLink {
		if o := &t.link.onLink[i]; o.router == router {
			o.mention.superseded = true
		}
	}
	t.update(time.Now())
}
