package datapath

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/datapath/steer"
	"tnat64d/siit"
)

// followedRoutes are the host's routes inside PREF64 and the prefixes of networks.
type followedRoutes struct {
	all  []steer.Route
	left int // beyond steer.MaxRoutes
}

// Follow sends packets from src, the translator's IPv6 address, to pref64 by the
// uplink and as the host's routes inside PREF64 say (a second link, a VPN). Packets
// to the prefixes of networks go by the host's routes to these or parts of them, and
// otherwise the same way. Of several routers it prefers via, if that is valid and a
// default router of the host. Call it again when routes, rules or links may have
// changed.
func (s *Steering) Follow(src netip.Addr, pref64 netip.Prefix, networks []netip.Prefix, via netip.Addr) error {
	p := s.path
	inside, left, err := steer.RoutesInside(p.options.Netlink, p.device.Index, src, pref64, networks)
	if err != nil {
		return err
	}
	p.mu.Lock() // until the kernel engine has the routes: SetTrace pauses it
	defer p.mu.Unlock()
	if left != p.routes.left && left > 0 {
		p.options.Log.Warn("too many routes inside the PREF64: the least specific are not followed",
			"tun", p.options.TUN, "pref64", pref64, "followed", steer.MaxRoutes, "not_followed", left)
	}
	changed := !slices.Equal(inside, p.routes.all)
	p.routes = followedRoutes{inside, left}
	if changed && p.user != nil {
		p.user.SetTranslator(p.routes.apply(p.translator))
	}
	// For the rest of PREF64 any address in it will do.
	return s.by.follow(routesToPLAT{
		netlink: p.options.Netlink, uplink: s.uplink, src: src, dst: pref64.Addr().Next(), via: via, inside: inside,
	})
}

// apply returns a translator with the routes that user space answers for.
func (f followedRoutes) apply(t *siit.Translator) *siit.Translator {
	rs := make([]siit.Route, 0, len(f.all))
	for _, r := range f.all {
		rs = append(rs, siit.Route{Prefix: r.Prefix, Action: rejections[r.Action], MTU6: r.MTU})
	}
	return t.WithRoutes(rs)
}

// rejections are the actions that user space answers for.
var rejections = map[steer.RouteAction]siit.RouteAction{
	steer.RouteUnreachable: siit.RouteUnreachable,
	steer.RouteProhibit:    siit.RouteProhibit,
	steer.RouteBlackhole:   siit.RouteBlackhole,
}

// routesToPLAT are the routes of packets from src to PREF64.
type routesToPLAT struct {
	netlink *netlink.Handle
	uplink  int
	src     netip.Addr
	dst     netip.Addr // an address in PREF64
	via     netip.Addr // the preferred router, if valid
	inside  []steer.Route
}

// router returns the router on the uplink; the zero Addr leaves the choice to
// the kernel.
func (r routesToPLAT) router() (netip.Addr, error) {
	return steer.Router(r.netlink, r.uplink, r.src, r.dst, r.via)
}

// nextHop returns the next hop on the uplink; the zero Addr if the destination
// is a neighbour itself.
func (r routesToPLAT) nextHop() (netip.Addr, error) {
	router, err := r.router()
	switch {
	case err != nil:
		return netip.Addr{}, err
	case router == r.dst:
		return netip.Addr{}, nil
	case router.IsValid():
		return router, nil
	}
	// The kernel knows which of several routers are reachable.
	chosen, err := steer.FIBRoute(r.netlink, r.uplink, r.src, r.dst)
	if err != nil {
		return netip.Addr{}, err
	}
	if chosen == nil || chosen.LinkIndex != r.uplink {
		return netip.Addr{}, unix.ENETUNREACH
	}
	hop, _ := netip.AddrFromSlice(chosen.Gw)
	return hop, nil
}
