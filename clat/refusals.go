package clat

import (
	"net/netip"
	"slices"
	"time"

	"tnat64d/clat/plan"
)

// maxRefused bounds the memory of a host that lives for years on one link.
const maxRefused = 64

// refusals remembers the addresses that DAD found in use by another host.
type refusals struct {
	wake *wakeup
	all  []refusal
}

type refusal struct {
	plan.Refusal
	at time.Time
}

func (r *refusals) add(link int, a netip.Addr) {
	if len(r.all) == maxRefused {
		r.all = r.all[1:]
	}
	r.all = append(r.all, refusal{plan.Refusal{Link: link, Addr: a}, time.Now()})
}

// expire forgets refusals that may no longer be true. Those of a link on which an
// address serves or is in reserve are remembered as long as the link has its
// network: that address would only be given up for one that is refused again.
func (r *refusals) expire(o plan.Observed, p plan.Plan, serves func(plan.Uplink) bool) {
	now := time.Now()
	r.all = slices.DeleteFunc(r.all, func(f refusal) bool {
		i := slices.IndexFunc(p.Uplinks, func(d plan.Desired) bool { return d.Uplink.Index == f.Link })
		l, ok := o.LinkByIndex(f.Link)
		if i >= 0 && p.Uplinks[i].Detect.IsValid() {
			return false
		}
		if i < 0 || p.Uplinks[i].Hold || !ok || !l.Carrier {
			return true
		}
		if p.Uplinks[i].CLAT != nil || p.Uplinks[i].Reserve.IsValid() || serves(p.Uplinks[i].Uplink) {
			return false
		}
		left := tryAgain - now.Sub(f.at)
		r.wake.in(left) // at once if it is forgotten now: the plan does not know yet
		return left <= 0
	})
}
