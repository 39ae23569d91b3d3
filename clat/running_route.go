package clat

import (
	"errors"
	"fmt"
	"slices"

	"tnat64d/clat/plan"
)

// bringUpRoutes makes the IPv4 default route in the main table and, if it is
// wanted, the one in the CLAT's own table with the rule that leads there.
func (c *running) bringUpRoutes(o plan.Observed, want *plan.CLAT, sourceRules bool) error {
	if c.drifted {
		return nil // a route needs its source, and a link that is up
	}
	main := plan.Route{
		Link: c.tun.Index(), Source: want.IPv4, Metric: want.Metric, MTU: int(want.MTU.IPv4()),
		Table: plan.TableMain, Protocol: plan.Protocol,
	}
	routes := []plan.Route{main}
	if sourceRules && !c.noRule {
		routes = append(routes, plan.SourceRuleFor(c.ipv4).Route(main))
	}
	for _, rt := range routes {
		known, name := slices.Contains(c.routes, rt), describeRoute(rt, want.TUN)
		if known && (slices.Contains(o.Routes, rt) || !c.mayRestore(name)) {
			continue
		}
		if err := c.rec.host.AddRoute(rt); err != nil {
			return fmt.Errorf("add %s: %w", name, err)
		}
		if known {
			c.restored(name)
		} else {
			c.routes = append(c.routes, rt)
		}
	}
	if err := c.bringUpRule(o, sourceRules); err != nil {
		return err
	}
	// After the new ones are there: no packet finds the host without.
	return c.dropRoutes(func(rt plan.Route) bool { return !slices.Contains(routes, rt) })
}

func describeRoute(r plan.Route, tun string) string {
	if r.Table == plan.TableMain {
		return "IPv4 default route on " + tun
	}
	return fmt.Sprintf("IPv4 default route on %s in table %d", tun, r.Table)
}

// bringUpRule makes the rule, or removes it.
func (c *running) bringUpRule(o plan.Observed, wanted bool) error {
	if !wanted || c.noRule {
		return c.ruleDown()
	}
	r := c.rec
	rule := plan.SourceRuleFor(c.ipv4)
	known, name := c.rule == rule, "rule for "+c.tunName
	if known && (slices.Contains(o.Rules, rule) || !c.mayRestore(name)) {
		return nil
	}
	c.rule = rule
	err := r.host.AddSourceRule(rule)
	if errors.Is(err, errors.ErrUnsupported) {
		c.noRule = true
		if !r.saidNoRules {
			r.saidNoRules = true
			r.log.Warn("this kernel has no policy routing: connections end when another IPv4 default route becomes the better one", "reason", err)
		}
		return c.ruleDown()
	}
	if err != nil {
		return fmt.Errorf("add the rule for %s: %w", rule.Source, err)
	}
	if known {
		c.restored(name)
	}
	return nil
}

func (c *running) ruleDown() error {
	if c.rule == (plan.SourceRule{}) {
		return nil
	}
	err := c.rec.host.DelSourceRule(c.rule)
	c.rule = plan.SourceRule{}
	return err
}

// routesDown removes the IPv4 default routes. The rule stays: where it leads
// everything is unreachable then.
func (c *running) routesDown() error { return c.dropRoutes(func(plan.Route) bool { return true }) }

func (c *running) dropRoutes(which func(plan.Route) bool) error {
	var errs []error
	c.routes = slices.DeleteFunc(c.routes, func(rt plan.Route) bool {
		if !which(rt) {
			return false
		}
		if err := c.rec.host.DelRoute(rt); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", describeRoute(rt, c.tunName), err))
		}
		return true
	})
	return errors.Join(errs...)
}
