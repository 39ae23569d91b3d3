package clat

import (
	"errors"
	"net/netip"
	"slices"

	"tnat64d/clat/plan"
)

// reserves are the addresses of CLATs that are not needed at present: see
// [plan.Desired]. They have passed DAD, or are in it, and nothing uses them.
type reserves struct {
	opener Opener
	all    []*address
}

// on returns the reserve of an uplink, or nil.
func (r *reserves) on(u plan.Uplink) *address {
	if i := slices.IndexFunc(r.all, func(a *address) bool { return a.uplink == u }); i >= 0 {
		return r.all[i]
	}
	return nil
}

// take hands the reserve of an uplink to its CLAT. It returns nil if there is none.
func (r *reserves) take(u plan.Uplink) *address {
	a := r.on(u)
	r.all = slices.DeleteFunc(r.all, func(b *address) bool { return a == b })
	return a
}

// removeUnwanted removes what p does not have.
func (r *reserves) removeUnwanted(p plan.Plan) error {
	return r.removeIf(func(a *address) bool {
		return !slices.ContainsFunc(p.Uplinks, func(d plan.Desired) bool {
			// A CLAT takes it over: see take.
			return d.Uplink == a.uplink && (d.Reserve.IsValid() || d.CLAT != nil)
		})
	})
}

// removeIf removes the reserves that which selects. What the kernel refuses to
// remove stays ours.
func (r *reserves) removeIf(which func(*address) bool) error {
	var errs []error
	r.all = slices.DeleteFunc(r.all, func(a *address) bool {
		if !which(a) {
			return false
		}
		r.opener.Unprepare(a.uplink)
		errs = append(errs, a.Remove())
		a.unremoved.keep(a)
		return true
	})
	return errors.Join(errs...)
}

// reserve puts addr on the uplink of a, which has not served yet, and takes away
// what was there of ours. Replan says that another host has it.
func (a *address) reserve(o plan.Observed, addr netip.Addr) (Progress, error) {
	if err := a.removeIf(func(b netip.Addr) bool { return b != addr }); err != nil {
		return Down, err
	}
	progress, err := a.claim(o, addr)
	if progress != Replan {
		progress = Down
	}
	return progress, err
}
