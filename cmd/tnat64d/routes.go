package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"tnat64d/datapath/steer"
	"tnat64d/internal/control"
	"tnat64d/siit"
)

// followRoutes asks for the host's routes inside PREF64 and has user space
// answer what they reject. It reports whether they have changed.
func (p *path) followRoutes(src netip.Addr, pref64 netip.Prefix) (changed bool, err error) {
	rs, left, err := steer.RoutesInside(p.data.handle, p.device.Index, src, pref64)
	if err != nil {
		return false, err
	}
	if left != p.routesLeft && left > 0 {
		p.data.log.Warn("too many routes inside the PREF64: the least specific are not followed",
			"tun", p.name, "pref64", pref64, "followed", steer.MaxRoutes, "not_followed", left)
	}
	p.routesLeft = left
	if slices.Equal(rs, p.routes) {
		return false, nil
	}
	p.routes = rs
	if p.translator != nil && p.engine != nil {
		p.engine.SetTranslator(p.routed())
	}
	return true, nil
}

// routed is the translator with the routes that user space answers for.
func (p *path) routed() *siit.Translator {
	rs := make([]siit.Route, 0, len(p.routes))
	for _, r := range p.routes {
		rs = append(rs, siit.Route{Prefix: r.Prefix, Action: map[steer.RouteAction]siit.RouteAction{
			steer.RouteUnreachable: siit.RouteUnreachable,
			steer.RouteProhibit:    siit.RouteProhibit,
			steer.RouteBlackhole:   siit.RouteBlackhole,
		}[r.Action]})
	}
	return p.translator.WithRoutes(rs)
}

// maxStatusRoutes is how many routes status tells.
const maxStatusRoutes = 32

// routesStatus is called in the loop, as followRoutes is.
func (d *tnat64d) routesStatus(p *path) (rs []control.Route) {
	for _, r := range p.routes[:min(len(p.routes), maxStatusRoutes)] {
		s := control.Route{Prefix: r.Prefix, Action: r.Action.String(), Gateway: address(r.Gateway)}
		if r.Link != 0 {
			s.Link = linkName(d.path.handle, r.Link)
		}
		rs = append(rs, s)
	}
	return rs
}

// linkName returns the name of an interface, or its index if it has just gone.
func linkName(h *netlink.Handle, index int) string {
	l, err := h.LinkByIndex(index)
	if err != nil {
		return fmt.Sprint(index)
	}
	return l.Attrs().Name
}
