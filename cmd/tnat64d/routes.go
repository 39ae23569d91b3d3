package main

import (
	"fmt"

	"github.com/vishvananda/netlink"

	"tnat64d/datapath/steer"
	"tnat64d/internal/control"
)

// maxStatusRoutes bounds how many routes status lists.
const maxStatusRoutes = 32

// routesStatus describes the first of the host's routes inside PREF64.
func routesStatus(h *netlink.Handle, routes []steer.Route) (rs []control.Route) {
	for _, r := range routes[:min(len(routes), maxStatusRoutes)] {
		s := control.Route{Prefix: r.Prefix, Action: r.Action.String(), MTU: r.MTU}
		if r.Action == steer.RouteGateway {
			s.Gateway = address(r.Gateway)
		}
		if r.Link != 0 {
			s.Link = linkName(h, r.Link)
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
