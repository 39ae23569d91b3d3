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
		t.row(title, routeWords(r))
	}
	if more := c.RoutesFollowed - len(c.Routes); more > 0 {
		t.row("", fmt.Sprintf("and %d more", more))
	}
}

func routeWords(r control.Route) string {
	s := r.Prefix.String()
	switch {
	case r.Link == "":
		return s + ": " + r.Action
	case r.Gateway != nil:
		s += " via " + r.Gateway.String()
	case r.Action == "multipath":
		s += " by several routers"
	}
	return s + " on " + r.Link
}
