package clat

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"tnat64d/clat/plan"
)

// unremoved are the CLAT addresses of ended CLATs that the kernel has refused to
// remove. They remain ours, and their removal is retried every [tryAgain].
type unremoved struct {
	tools
	all []unremovedAddr
}

type unremovedAddr struct {
	uplink plan.Uplink
	addr   netip.Addr
	tried  time.Time
}

// keep takes over what the end of a CLAT has left on its uplink.
func (u *unremoved) keep(a *address) {
	for _, addr := range a.added {
		u.all = append(u.all, unremovedAddr{a.uplink, addr, time.Now()})
		u.wake.in(tryAgain)
	}
	a.added = nil
}

// adopt gives a to a CLAT that wants it, and reports whether there was one.
func (u *unremoved) adopt(on plan.Uplink, a netip.Addr) bool {
	before := len(u.all)
	u.all = slices.DeleteFunc(u.all, func(s unremovedAddr) bool { return s.uplink == on && s.addr == a })
	return len(u.all) < before
}

// retry tries once more to remove what no plan wants, and forgets what another
// program has removed.
func (u *unremoved) retry(o plan.Observed, p plan.Plan) {
	wanted := func(s unremovedAddr) bool {
		return slices.ContainsFunc(p.Uplinks, func(d plan.Desired) bool {
			return d.Uplink == s.uplink && (d.CLAT != nil && d.CLAT.IPv6 == s.addr || d.Reserve == s.addr)
		})
	}
	err := u.remove(func(s unremovedAddr) bool {
		_, there := o.Addr(s.uplink.Index, s.addr)
		return !wanted(s) && (!there || time.Since(s.tried) >= tryAgain)
	})
	if err != nil {
		u.log.Debug("cannot remove an address yet", "reason", err) // the first time it was an error
	}
	for _, s := range u.all {
		if !wanted(s) {
			u.wake.in(tryAgain - time.Since(s.tried))
		}
	}
}

// remove tries to remove the addresses that which selects.
func (u *unremoved) remove(which func(unremovedAddr) bool) error {
	var errs []error
	left := u.all[:0]
	for _, s := range u.all {
		if !which(s) {
			left = append(left, s)
			continue
		}
		if err := removeAddr(u.tools, s.uplink, s.addr); err != nil {
			errs = append(errs, err)
			s.tried = time.Now()
			left = append(left, s)
		}
	}
	u.all = left
	return errors.Join(errs...)
}
