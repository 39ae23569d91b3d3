package host

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// AddSourceRule adds the rule for packets from r.Source and, first, what they
// find where there is no better route: that the host is unreachable. Then it
// removes those of our rules that differ from r in their priority only.
func (k rules) AddSourceRule(r plan.SourceRule) error {
	if err := k.handle.RouteReplace(unreachable(r)); err != nil {
		return fmt.Errorf("table %d: %w", r.Table, unlessUnknown(err))
	}
	if err := k.handle.RuleAdd(netlinkRule(r)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("rule: %w", unlessUnknown(err))
	}
	return k.delRules(func(o plan.SourceRule) bool { return o.SameFlows(r) && o != r })
}

// DelSourceRule removes both, whatever the rule's priority.
func (k rules) DelSourceRule(r plan.SourceRule) error {
	return errors.Join(k.delRules(r.SameFlows), unlessGone(k.handle.RouteDel(unreachable(r))))
}

// delRules removes those of our IPv4 rules that which selects.
func (k rules) delRules(which func(plan.SourceRule) bool) error {
	all, err := k.ipv4Rules()
	errs := []error{err}
	for _, r := range all {
		if !which(sourceRuleOf(r)) {
			continue
		}
		if err := k.handle.RuleDel(&r); !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sourceRuleOf is a rule of ours as package plan knows it.
func sourceRuleOf(n netlink.Rule) plan.SourceRule {
	r := plan.SourceRule{Table: n.Table, Priority: max(n.Priority, 0)} // the kernel leaves out 0
	if n.Src != nil {
		r.Source = addrOf(n.Src.IP)
	}
	return r
}

// unlessUnknown turns the error of a kernel without policy routing
// (CONFIG_IP_MULTIPLE_TABLES) into one that says so.
func unlessUnknown(err error) error {
	if isUnsupported(err) {
		return fmt.Errorf("%w by this kernel: %w", errors.ErrUnsupported, err)
	}
	return err
}

func isUnsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT)
}

// sourceRules lists our rules that are complete.
func (k rules) sourceRules() ([]plan.SourceRule, error) {
	rules, err := k.ipv4Rules()
	if err != nil || len(rules) == 0 {
		return nil, err
	}
	var out []plan.SourceRule
	for _, n := range rules {
		r := sourceRuleOf(n)
		routes, err := k.unreachables(r.Table)
		if err != nil {
			return nil, err
		}
		if len(routes) > 0 {
			out = append(out, r)
		}
	}
	return out, nil
}

// ipv4Rules lists the IPv4 rules that are ours.
func (k rules) ipv4Rules() ([]netlink.Rule, error) {
	all, err := whole(func() ([]netlink.Rule, error) { return k.handle.RuleList(unix.AF_INET) })
	if isUnsupported(err) {
		return nil, nil
	}
	return slices.DeleteFunc(all, func(r netlink.Rule) bool { return r.Protocol != plan.Protocol }), err
}

// unreachables lists the IPv4 routes that AddSourceRule has added to a table, or
// to any if it is RT_TABLE_UNSPEC.
func (k rules) unreachables(table int) ([]netlink.Route, error) {
	filter := &netlink.Route{Table: table, Protocol: plan.Protocol, Type: unix.RTN_UNREACHABLE}
	return k.listRoutes(unix.AF_INET, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TYPE)
}

// DelSourceRules removes the rules that a killed predecessor left, and their
// routes; those into its TUN are gone.
func (k rules) DelSourceRules() error {
	errs := []error{k.delRules(func(plan.SourceRule) bool { return true })}
	routes, err := k.unreachables(unix.RT_TABLE_UNSPEC)
	errs = append(errs, err)
	for _, r := range routes {
		errs = append(errs, unlessGone(k.handle.RouteDel(&r)))
	}
	return errors.Join(errs...)
}

func netlinkRule(r plan.SourceRule) *netlink.Rule {
	n := netlink.NewRule()
	n.Family, n.Protocol = unix.AF_INET, plan.Protocol
	n.Priority, n.Table, n.Src = r.Priority, r.Table, ipNet(r.Source)
	return n
}

func unreachable(r plan.SourceRule) *netlink.Route {
	return &netlink.Route{
		Dst:      &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		Priority: plan.MaxMetric, Table: r.Table, Protocol: plan.Protocol, Type: unix.RTN_UNREACHABLE,
	}
}
