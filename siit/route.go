package siit

import "net/netip"

// Route says how packets to an IPv6 prefix are handled, where the routes of the
// host make an exception. The longest prefix wins.
type Route struct {
	Prefix netip.Prefix // IPv6, after translation
	Action RouteAction
	MTU6   int // bytes, if smaller than Config.MTU6; 0: not
}

// RouteAction is what a route does with packets.
type RouteAction uint8

const (
	RouteForward     RouteAction = iota // nothing special
	RouteUnreachable                    // drop, and say so to the sender
	RouteProhibit                       // drop, and tell the sender that it is prohibited
	RouteBlackhole                      // drop
)

// routeTable finds the route to a destination.
type routeTable struct {
	by6     column
	entries []routeEntry
}

// routeEntry is one route. limits are the Translator's, lowered by the route's MTU.
type routeEntry struct {
	action RouteAction
	limits limits
}

// WithRoutes returns a Translator that is t but for its routes, which are those
// in rs. Prefixes that are not of IPv6, and all but the first Route to a prefix,
// are left out. A packet that a route keeps from leaving has the reason NoRoute,
// ProhibitedByRoute or BlackholeRoute. The sender gets what RFC 7915 section 5.2
// makes of the ICMPv6 error that an IPv6 program would see. An MTU below 1280 counts
// as 1280.
func (t *Translator) WithRoutes(rs []Route) *Translator {
	u := *t
	u.routes = newRouteTable(rs, t.limits)
	return &u
}

func newRouteTable(rs []Route, l limits) routeTable {
	var prefixes []eamEntry
	var entries []routeEntry
	seen := map[netip.Prefix]bool{}
	matters := false
	for _, r := range rs {
		p := r.Prefix.Masked()
		if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() || seen[p] {
			continue
		}
		seen[p] = true
		a := p.Addr().As16()
		prefixes = append(prefixes, eamEntry{addr6: number(a[:]), bits6: uint(p.Bits())})
		e := routeEntry{r.Action, l.lowered(r.MTU6)}
		entries = append(entries, e)
		matters = matters || e != routeEntry{limits: l}
	}
	if !matters {
		return routeTable{}
	}
	by6, _ := newColumn(prefixes, func(e *eamEntry) (u128, uint) { return e.addr6, e.bits6 })
	return routeTable{by6, entries}
}

// find returns the route to the IPv6 address in dst, or nil.
func (t *routeTable) find(dst []byte) *routeEntry {
	if len(t.entries) == 0 {
		return nil
	}
	i := t.by6.find(number(dst))
	if i < 0 {
		return nil
	}
	return &t.entries[i]
}

// refusal returns the answer to a packet that a route keeps from leaving.
func (a RouteAction) refusal() refusal {
	const unreachable, host, prohibited = 3, 1, 10
	switch a {
	case RouteForward:
		return refusal{}
	case RouteUnreachable:
		return answer(NoRoute, unreachable, host, 0)
	case RouteProhibit:
		return answer(ProhibitedByRoute, unreachable, prohibited, 0)
	}
	return drop(BlackholeRoute)
}
