package clat

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"tnat64d/clat/plan"
)

// hold keeps a CLAT whose network is gone, for a minute: TUN, IPv4 address and
// engine, but no IPv4 default route, so that programs hear at once that the
// network is unreachable. What connections there are survive if it comes back
// with the same prefixes, and listening sockets in any case.
func (c *running) hold(o plan.Observed, sourceRules bool) Outcome {
	r := c.rec
	if c.held.IsZero() {
		c.held = time.Now()
	}
	left := holdFor - time.Since(c.held)
	if left <= 0 || !c.translates || c.tunGone(o) {
		return Outcome{Progress: Down, Err: c.end(true)}
	}
	if err := c.withhold(o, sourceRules); err != nil {
		return Outcome{Err: errors.Join(err, c.end(false))}
	}
	r.retryIn(left)
	return Outcome{Progress: Held}
}

func (c *running) withhold(o plan.Observed, sourceRules bool) error {
	err := errors.Join(c.routesDown(), c.bringUpRule(o, sourceRules))
	// The kernel takes the addresses of a link that goes down. Nobody else
	// has to be blamed for it.
	own, _ := o.OwnSource(c.uplink.Index)
	err = errors.Join(err, c.removeAddrs(func(a netip.Addr) bool {
		_, there := o.Addr(c.uplink.Index, a)
		return !there || !own && a != c.active
	}))
	// Without another address the kernel would choose the CLAT's for native IPv6.
	// What routers say is not asked here: those that say anything at all may
	// not be the ones that matter.
	if c.active.IsValid() && (!slices.Contains(c.added, c.active) || !own || !o.HasPrefixOf(c.uplink.Index, c.active)) {
		err = errors.Join(err, c.withdraw())
	}
	return err
}
