package clat

import (
	"errors"
	"fmt"
	"slices"

	"tnat64d/clat/plan"
)

// ruleState says whether a CLAT has its routing rule.
type ruleState uint8

const (
	ruleAbsent ruleState = iota
	rulePresent
	ruleUnsupported // the kernel has no policy routing
)

// rule is the resource that keeps packets from a CLAT's address with that CLAT:
// the default route in the CLAT's own table, and the rule that leads there.
type rule struct {
	routes    // in the table
	state     ruleState
	made      plan.SourceRule // if it is present
	warned    *bool           // of ruleUnsupported, once for all CLATs
	ruleDrift driftLimit
	retry     retry // of table and rule
}

// Ensure makes table and rule, or removes them if they are not wanted.
func (r *rule) Ensure(p pass) (Progress, error) {
	if r.datapath.drifted {
		return Up, nil
	}
	if p.sourceRules.Wanted && r.state != ruleUnsupported {
		first := defaultRoute(p.want, r.datapath.index())
		if err := r.replace(p.o, plan.SourceRuleFor(p.want.IPv4, p.sourceRules.Priority).Route(first)); err != nil {
			return Down, err
		}
	}
	if err := r.ensureRule(p); err != nil {
		return Down, err
	}
	if r.state != rulePresent {
		return Up, r.routes.Remove()
	}
	return Up, nil
}

// block leaves the rule without a route: where it leads everything is
// unreachable then.
func (r *rule) block(p pass) error {
	return errors.Join(r.routes.Remove(), r.ensureRule(p))
}

func (r *rule) ensureRule(p pass) error {
	if !p.sourceRules.Wanted || r.state == ruleUnsupported {
		return r.removeRule()
	}
	want := plan.SourceRuleFor(r.datapath.ipv4, p.sourceRules.Priority)
	known, name := r.state == rulePresent && r.made == want, "rule for "+r.tun
	if known && (slices.Contains(p.o.Rules, want) || !r.ruleDrift.mayRestore(r.tools, name)) {
		return nil
	}
	r.state, r.made = rulePresent, want // as far as it is there
	err := r.host.AddSourceRule(want)
	if errors.Is(err, errors.ErrUnsupported) {
		if !*r.warned {
			*r.warned = true
			r.log.Warn("this kernel has no policy routing: connections end when another IPv4 default route becomes the better one", "reason", err)
		}
		err = r.removeRule()
		r.state = ruleUnsupported
		return err
	}
	if err != nil {
		return fmt.Errorf("add the rule for %s: %w", want.Source, err)
	}
	if known {
		r.ruleDrift.restored(r.tools, name)
	}
	return nil
}

// Remove removes the route first: what still takes the rule finds everything
// unreachable.
func (r *rule) Remove() error { return errors.Join(r.routes.Remove(), r.removeRule()) }

func (r *rule) removeRule() error {
	if r.state != rulePresent {
		return nil
	}
	if err := r.host.DelSourceRule(r.made); err != nil {
		return fmt.Errorf("remove the rule: %w", err)
	}
	r.state = ruleAbsent
	return nil
}
