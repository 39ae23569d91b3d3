package clat

import (
	"errors"
	"net/netip"
	"time"

	"tnat64d/clat/plan"
)

// detections are duplicate address detections that run while the host's own address
// is in DAD. The kernel would choose the CLAT address as the source of native IPv6
// if that were valid first (see [plan.OwnSource]), so the uplink gets it only when
// both detections are over.
type detections struct {
	host Host
	all  map[plan.Uplink]detected
}

// detected is the address of a detection, and the carrier on which it began.
type detected struct {
	addr    netip.Addr
	carrier int
}

// ensure begins or continues the detection of a.
func (d *detections) ensure(o plan.Observed, u plan.Uplink, a netip.Addr) (wait time.Duration, err error) {
	l, _ := o.LinkByIndex(u.Index)
	now := detected{a, l.CarrierChanges}
	if was, ok := d.all[u]; ok && was != now {
		d.end(u)
	}
	if wait, err = d.host.Detect(u.Index, u.Name, a); err != nil {
		d.end(u)
		return 0, err
	}
	if d.all == nil {
		d.all = map[plan.Uplink]detected{}
	}
	d.all[u] = now
	return wait, nil
}

// has reports whether the detection of a on this carrier is under way or over.
func (d *detections) has(o plan.Observed, u plan.Uplink, a netip.Addr) bool {
	l, _ := o.LinkByIndex(u.Index)
	was, ok := d.all[u]
	return ok && was == detected{a, l.CarrierChanges}
}

// end ends the detection on an uplink, if there is one.
func (d *detections) end(u plan.Uplink) {
	if _, ok := d.all[u]; ok {
		d.host.EndDetect(u.Index)
		delete(d.all, u)
	}
}

// endUnwanted ends those that p has no use for.
func (d *detections) endUnwanted(p plan.Plan) {
	wanted := map[plan.Uplink]bool{}
	for _, u := range p.Uplinks {
		wanted[u.Uplink] = u.Detect.IsValid() || u.CLAT != nil || u.Reserve.IsValid()
	}
	for u := range d.all {
		if !wanted[u] {
			d.end(u)
		}
	}
}

// detect continues the detection that d asks for, and reports whether another host
// has the address. Where it cannot be done the kernel's follows later.
func (r *Reconciler) detect(o plan.Observed, d plan.Desired) (refused bool) {
	if r.left.has(d.Uplink.Name, d.Detect) {
		return false // it will serve during the kernel's
	}
	wait, err := r.detections.ensure(o, d.Uplink, d.Detect)
	switch {
	case errors.Is(err, plan.ErrAddrInUse):
		r.log.Warn("address is in use by another host", "iface", d.Uplink.Name, "address", d.Detect)
		r.refusals.add(d.Uplink.Index, d.Detect)
		r.left.forget(d.Uplink.Name, d.Detect)
		return true
	case err != nil:
		r.log.Debug("cannot detect duplicates of the CLAT address in advance", "iface", d.Uplink.Name, "reason", err)
	case wait > 0:
		r.wake.in(wait)
	}
	return false
}
