package clat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tnat64d/clat/plan"
)

// stuckAddr is a CLAT address of one that has ended which the kernel has
// refused to remove. It remains ours.
type stuckAddr struct {
	uplink plan.Uplink
	addr   netip.Addr
	tried  time.Time
}

// stick keeps what the end of c has left on the uplink.
func (r *Reconciler) stick(c *running) {
	for _, a := range c.added {
		r.stuck = append(r.stuck, stuckAddr{c.uplink, a, time.Now()})
		r.retryIn(tryAgain)
	}
	c.added = nil
}

// adopt gives a to a CLAT that wants it, so that its end removes it.
func (r *Reconciler) adopt(c *running, a netip.Addr) {
	r.stuck = slices.DeleteFunc(r.stuck, func(s stuckAddr) bool {
		if s.uplink != c.uplink || s.addr != a {
			return false
		}
		c.added = append(c.added, a)
		return true
	})
}

// unstick tries once more to remove what nobody wants, and forgets what has
// gone by other hands.
func (r *Reconciler) unstick(o plan.Observed, p plan.Plan) {
	wanted := func(s stuckAddr) bool {
		return slices.ContainsFunc(p.Uplinks, func(d plan.Desired) bool {
			return d.Uplink == s.uplink && d.CLAT != nil && d.CLAT.IPv6 == s.addr
		})
	}
	err := r.removeStuck(func(s stuckAddr) bool {
		_, there := o.Addr(s.uplink.Index, s.addr)
		return !wanted(s) && (!there || time.Since(s.tried) >= tryAgain)
	})
	if err != nil {
		r.log.Debug("still refused", "reason", err) // the first time it was an error
	}
	for _, s := range r.stuck {
		if !wanted(s) {
			r.retryIn(tryAgain - time.Since(s.tried))
		}
	}
}

func (r *Reconciler) removeStuck(which func(stuckAddr) bool) error {
	var errs []error
	left := r.stuck[:0]
	for _, s := range r.stuck {
		if !which(s) {
			left = append(left, s)
			continue
		}
		if err := r.removeAddr(s.uplink, s.addr); err != nil {
			errs = append(errs, err)
			s.tried = time.Now()
			left = append(left, s)
		}
	}
	r.stuck = left
	return errors.Join(errs...)
}

// removeAddr takes a CLAT address of ours from an uplink, and from the journal.
func (r *Reconciler) removeAddr(u plan.Uplink, a netip.Addr) error {
	if err := r.host.DelCLATAddr(u.Index, a); err != nil {
		return fmt.Errorf("remove address %s from %s: %w", a, u.Name, err)
	}
	if r.journal != nil {
		r.warn(r.journal.Del(u.Name, a))
	}
	return nil
}
