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

// sourceRulePriority comes right before the main table, and after what a VPN
// has put there.
const sourceRulePriority = 32765

// AddSourceRule adds the rule for packets from r.Source and, first, what they
// find where there is no better route: that the host is unreachable.
func (k rules) AddSourceRule(r plan.SourceRule) error {
	if err := k.handle.RouteReplace(unreachable(r)); err != nil {
		return fmt.Errorf("table %d: %w", r.Table, unlessUnknown(err))
	}
	if err := k.handle.RuleAdd(netlinkRule(r)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("rule: %w", unlessUnknown(err))
	}
	return nil
}

// DelSourceRule removes both.
func (k rules) DelSourceRule(r plan.SourceRule) error {
	err := k.handle.RuleDel(netlinkRule(r))
	if errors.Is(err, unix.ENOENT) || isUnsupported(err) {
		err = nil
	}
	return errors.Join(err, unlessGone(k.handle.RouteDel(unreachable(r))))
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
		r := plan.SourceRule{Table: n.Table}
		if n.Src != nil {
			r.Source = addrOf(n.Src.IP)
		}
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
	all, err := retryDump(func() ([]netlink.Rule, error) { return k.handle.RuleList(unix.AF_INET) })
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
	rules, err := k.ipv4Rules()
	errs := []error{err}
	for _, r := range rules {
		if err := k.handle.RuleDel(&r); !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
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
	n.Priority, n.Table, n.Src = sourceRulePriority, r.Table, ipNet(r.Source)
	return n
}

func unreachable(r plan.SourceRule) *netlink.Route {
	return &netlink.Route{
		Dst:      &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		Priority: plan.MaxMetric, Table: r.Table, Protocol: plan.Protocol, Type: unix.RTN_UNREACHABLE,
	}
}
