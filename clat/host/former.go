package host

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

// DelFormerProxy removes the proxy neighbour entry for a.
func (k former) DelFormerProxy(link int, a netip.Addr) error {
	err := k.handle.NeighDel(&netlink.Neigh{LinkIndex: link, Family: unix.AF_INET6, Flags: netlink.NTF_PROXY, IP: a.AsSlice()})
	if !errors.Is(err, unix.ENOENT) {
		return unlessGone(err)
	}
	return nil
}

// DelFormerRoutes removes the IPv6 rules and routes of versions that made the
// kernel forward.
func (k former) DelFormerRoutes(o plan.Observed) error {
	rules, err := whole(func() ([]netlink.Rule, error) { return k.handle.RuleList(unix.AF_INET6) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		err = nil // a kernel without IPv6 policy routing
	}
	errs := []error{err}
	for _, r := range rules {
		if r.Protocol == plan.Protocol && r.Table == plan.Protocol {
			r.Family = unix.AF_INET6
			if err := k.handle.RuleDel(&r); !errors.Is(err, unix.ENOENT) {
				errs = append(errs, err)
			}
		}
	}
	for _, r := range o.Routes {
		if r.IPv6 && r.Protocol == plan.Protocol && r.Table == plan.Protocol {
			errs = append(errs, k.DelRoute(r))
		}
	}
	return errors.Join(errs...)
}
