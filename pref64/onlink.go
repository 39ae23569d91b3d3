package pref64

import (
	"net/netip"
	"slices"
	"time"
)

const (
	maxOnLink          = 16 // prefixes for addresses that are remembered
	maxOnLinkPerRouter = 8
)

// onLink is a prefix from which hosts of the link form addresses (SLAAC).
type onLink struct {
	prefix  netip.Prefix
	router  netip.Addr // who advertised it last
	expires time.Time  // end of the valid lifetime; zero: never
}

// forAddresses reports whether hosts may form addresses from p (RFC 4862
// section 5.5.3).
func forAddresses(p PrefixInfo) bool {
	return p.Autonomous && p.Prefix.Bits() == 64 && p.Valid > 0 && p.Preferred <= p.Valid && !isLinkLocal(p.Prefix.Addr())
}

// hearPrefixes takes in the Prefix Information options of ra.
func (t *Tracker) hearPrefixes(ra *RouterAdvertisement, now time.Time) {
	for _, p := range ra.Prefixes {
		if !p.Autonomous {
			continue
		}
		i := slices.IndexFunc(t.link.onLink, func(o onLink) bool { return o.prefix == p.Prefix })
		heard := onLink{prefix: p.Prefix, router: ra.Router, expires: end(now, p.Valid)}
		switch {
		case !forAddresses(p):
			if i >= 0 && p.Valid == 0 {
				t.link.onLink = slices.Delete(t.link.onLink, i, i+1)
			}
		case i >= 0:
			t.link.onLink[i] = heard
		default:
			its := 0
			for _, o := range t.link.onLink {
				if o.router == ra.Router {
					its++
				}
			}
			if len(t.link.onLink) >= maxOnLink || its >= maxOnLinkPerRouter {
				t.ignored.note(Ignored{Reason: TooMany, Prefix: p.Prefix, Router: ra.Router}, now)
				continue
			}
			t.link.onLink = append(t.link.onLink, heard)
		}
	}
}
