package clat

import (
	"errors"
	"fmt"
	"slices"

	"tnat64d/clat/plan"
)

// routes is the resource of IPv4 default routes of a CLAT, and of routes to parts of
// IPv4.
type routes struct {
	tools
	uplink   plan.Uplink
	tun      string // name
	datapath *datapath
	added    []plan.Route
	drift    driftLimit
	retry    retry
}

// Ensure adds the default route, and routes beside useless ones that would hide it.
func (r *routes) Ensure(p pass) (Progress, error) {
	if r.datapath.drifted {
		return Up, nil // a route needs its source, and a link that is up
	}
	first := defaultRoute(p.want, r.datapath.index())
	wants := []plan.Route{first}
	for _, t := range p.want.Tables {
		other := first
		other.Table, other.Part, other.Metric = t.Table, t.Part, t.Metric
		wants = append(wants, other)
	}
	return Up, r.replace(p.o, wants...)
}

// defaultRoute returns the IPv4 default route of a CLAT.
func defaultRoute(c *plan.CLAT, tun int) plan.Route {
	return plan.Route{
		Link: tun, Source: c.IPv4, Metric: c.Metric, MTU: int(c.MTU.IPv4()),
		Table: c.Table, Protocol: plan.Protocol,
	}
}

// replace makes wants the only routes, and restores them. Old ones go after the new
// ones are there, so that no packet finds the host without a route.
func (r *routes) replace(o plan.Observed, wants ...plan.Route) error {
	for _, want := range wants {
		if err := r.ensure(o, want); err != nil {
			return err
		}
	}
	return r.removeIf(func(rt plan.Route) bool { return !slices.Contains(wants, rt) })
}

// ensure adds or restores one route.
func (r *routes) ensure(o plan.Observed, want plan.Route) error {
	known, name := slices.Contains(r.added, want), describeRoute(want, r.tun)
	if known && (slices.Contains(o.Routes, want) || !r.drift.mayRestore(r.tools, name)) {
		return nil
	}
	if err := r.host.AddRoute(want); err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	if known {
		r.drift.restored(r.tools, name)
	} else {
		r.added = append(r.added, want)
	}
	return nil
}

// Remove removes the routes.
func (r *routes) Remove() error { return r.removeIf(func(plan.Route) bool { return true }) }

func (r *routes) removeIf(which func(plan.Route) bool) error {
	var errs []error
	r.added = slices.DeleteFunc(r.added, func(rt plan.Route) bool {
		if !which(rt) {
			return false
		}
		if err := r.host.DelRoute(rt); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", describeRoute(rt, r.tun), err))
			return false
		}
		return true
	})
	return errors.Join(errs...)
}

func describeRoute(r plan.Route, tun string) string {
	name := "IPv4 default route on " + tun
	if r.Part.IsValid() {
		name = fmt.Sprintf("route to %s on %s", r.Part, tun)
	}
	if r.Table != plan.TableMain {
		name += fmt.Sprintf(" in table %d", r.Table)
	}
	return name
}
