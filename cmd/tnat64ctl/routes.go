package main

import (
	"fmt"

	"tnat64d/internal/control"
)

// routes writes the host's routes inside the PREF64, which packets follow.
func (t *statusLines) routes(c *control.CLAT) {
	for i, r := range c.Routes {
		title := ""
		if i == 0 {
			title = "routes in PREF64"
		}
		t.row(title, routeWords(r, c.MTU6))
	}
	if more := c.RoutesFollowed - len(c.Routes); more > 0 {
		t.row("", fmt.Sprintf("and %d more", more))
	}
}

// routeWords describes a route; mtu is the MTU of those without a smaller one.
func routeWords(r control.Route, mtu int) string {
	s := r.Prefix.String()
	switch {
	case r.Link == "":
		return s + ": " + r.Action
	case r.Gateway != nil:
		s += " via " + r.Gateway.String()
	case r.Action == "multipath":
		s += " by several routers"
	}
	s += " on " + r.Link
	if r.MTU > 0 && r.MTU < mtu {
		s += fmt.Sprintf(", MTU %d", r.MTU)
	}
	return s
}
