package advertise

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/ndp"
)

// Store keeps the prefixes that were advertised on a link over restarts.
type Store interface {
	// Load returns the prefixes and when each was last advertised. What was never
	// saved is empty.
	Load() (map[netip.Prefix]time.Time, error)
	// Save replaces what Load returns.
	Save(map[netip.Prefix]time.Time) error
}

const (
	// recordInterval is how old the times of a Store may be.
	recordInterval = 10 * time.Minute
	// maxStale bounds the prefixes that are remembered beside the present ones.
	maxStale = 8
)

// history remembers which prefixes were advertised and when, so that hosts hear of
// those that are not advertised any more (RFC 9096 section 3.5).
type history struct {
	last  map[netip.Prefix]time.Time // of those that hosts may still use
	saved time.Time                  // of the Store; zero: it lacks a prefix
}

// restore takes what a Store has. Its times may be recordInterval too early.
func (h *history) restore(all map[netip.Prefix]time.Time, now time.Time) {
	for p, t := range all {
		if t = t.Add(recordInterval); t.After(now) {
			t = now // somebody has set the clock
		}
		h.note(p, t)
	}
	h.forget(nil, now)
}

// advertised notes that the prefixes are advertised now, and forgets those that no
// host can use any more.
func (h *history) advertised(prefixes []netip.Prefix, now time.Time) {
	for _, p := range prefixes {
		if _, known := h.last[p]; !known {
			h.saved = time.Time{}
		}
		h.note(p, now)
	}
	h.forget(prefixes, now)
}

// taken forgets the prefixes that another router announces as preferred: to
// withdraw them would take them from its hosts. It reports whether there are any.
func (h *history) taken(theirs *ndp.RouterAdvertisement) (some bool) {
	for _, p := range contentOf(theirs).prefixes {
		if _, ours := h.last[p.Prefix]; ours && p.preferred > 0 {
			delete(h.last, p.Prefix)
			h.saved, some = time.Time{}, true
		}
	}
	return some
}

func (h *history) note(p netip.Prefix, at time.Time) {
	if h.last == nil {
		h.last = map[netip.Prefix]time.Time{}
	}
	h.last[p] = at
}

// stale returns the prefixes other than the present ones that hosts may still have
// an address in, the one advertised last first.
func (h *history) stale(present []netip.Prefix, now time.Time) (all []netip.Prefix) {
	for p, t := range h.last {
		if !slices.Contains(present, p) && now.Sub(t) < validLifetime {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if order := h.last[b].Compare(h.last[a]); order != 0 {
			return order
		}
		return a.Compare(b)
	})
	return all
}

// forget removes what is neither present nor stale, and the oldest of what is too
// much.
func (h *history) forget(present []netip.Prefix, now time.Time) {
	stale := h.stale(present, now)
	stale = stale[:min(len(stale), maxStale)]
	maps.DeleteFunc(h.last, func(p netip.Prefix, _ time.Time) bool {
		return !slices.Contains(present, p) && !slices.Contains(stale, p)
	})
}

// due reports whether a Store has to be written.
func (h *history) due(now time.Time) bool { return now.Sub(h.saved) >= recordInterval }
