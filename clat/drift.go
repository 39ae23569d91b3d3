package clat

import (
	"maps"
	"time"

	"golang.org/x/time/rate"
)

// object is one thing that we configure and that other programs may remove or
// change, by the words of the log.
type object struct {
	link int // index of the uplink, or of the link that is guarded
	what string
}

// driftLimiter bounds how often one object is restored: five times at once,
// which is enough for a network manager that starts over, and then every ten
// seconds, so that there is no fight with a program that insists. Each object
// has its own limit, as one event may remove all of them. Only what succeeds
// counts. A step that fails is bounded by the backoff of failures, and if it
// counted here as well, an object that is restored at the second try could stay
// away for longer than restoreEvery.
type driftLimiter struct {
	limiter *rate.Limiter
	silent  bool // the log has said that restores are no longer logged
}

const (
	restoreEvery = 10 * time.Second
	restoreBurst = 5
)

// mayRestore reports whether an object that has drifted may be restored now. If
// not, it asks for another call when it may. Call restored after success.
func (c *running) mayRestore(what string) bool {
	return c.rec.mayRestore(object{c.uplink.Index, what})
}

// restored counts and logs that an object has been restored.
func (c *running) restored(what string) { c.rec.restored(object{c.uplink.Index, what}) }

func (r *Reconciler) mayRestore(o object) bool {
	d := r.drift[o]
	if d == nil {
		return true
	}
	if d.limiter.Tokens() >= 1 {
		return true
	}
	next := d.limiter.Reserve()
	wait := next.Delay()
	next.Cancel() // only to know when
	if !d.silent {
		d.silent = true
		r.log.Warn("another program keeps removing our configuration; restoring it every 10 s, further restores are not logged", "object", o.what)
	}
	r.retryIn(wait)
	return false
}

func (r *Reconciler) restored(o object) {
	d := r.drift[o]
	if d == nil {
		// Limiters that are full are as good as new ones.
		maps.DeleteFunc(r.drift, func(_ object, d *driftLimiter) bool { return d.limiter.Tokens() >= restoreBurst })
		d = &driftLimiter{limiter: rate.NewLimiter(rate.Every(restoreEvery), restoreBurst)}
		r.drift[o] = d
	}
	if d.limiter.Tokens() >= restoreBurst {
		d.silent = false
	}
	d.limiter.Allow()
	if !d.silent {
		r.log.Info("restored what another program removed", "object", o.what)
	}
}
