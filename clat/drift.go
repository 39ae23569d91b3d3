package clat

import (
	"log/slog"
	"maps"
	"time"

	"golang.org/x/time/rate"
)

// object is one thing that we configure and that other programs may remove or
// change.
type object struct {
	link int // index of the uplink, or of the link that is guarded
	what string
}

// driftLimits bounds how often each object is restored: five times at once,
// which is enough for a network manager that starts over, and then every ten
// seconds, so that we do not fight a program that insists. Each object has its
// own limit, as one event may remove all of them. The limit outlives the
// resource that the object belongs to.
//
// Only what succeeds counts. A step that fails is bounded by the backoff of
// failures; if it counted here as well, an object that is restored at the second
// attempt could stay away for longer than restoreEvery.
type driftLimits struct {
	limits map[object]*driftLimiter
	log    *slog.Logger
	wake   *wakeup
}

type driftLimiter struct {
	limiter *rate.Limiter
	silent  bool // the log has said that restores are no longer logged
}

const (
	restoreEvery = 10 * time.Second
	restoreBurst = 5
)

// mayRestore reports whether an object that has drifted may be restored now. If
// not, it asks to reconcile again when it may. Call restored after success.
func (d *driftLimits) mayRestore(o object) bool {
	l := d.limits[o]
	if l == nil || l.limiter.Tokens() >= 1 {
		return true
	}
	next := l.limiter.Reserve()
	wait := next.Delay()
	next.Cancel() // only to know when
	if !l.silent {
		l.silent = true
		d.log.Warn("another program keeps removing our configuration; restoring it every 10 s, further restores are not logged", "object", o.what)
	}
	d.wake.in(wait)
	return false
}

// restored counts and logs that an object has been restored.
func (d *driftLimits) restored(o object) {
	l := d.limits[o]
	if l == nil {
		// Limiters that are full are as good as new ones.
		maps.DeleteFunc(d.limits, func(_ object, l *driftLimiter) bool { return l.limiter.Tokens() >= restoreBurst })
		l = &driftLimiter{limiter: rate.NewLimiter(rate.Every(restoreEvery), restoreBurst)}
		d.limits[o] = l
	}
	if l.limiter.Tokens() >= restoreBurst {
		l.silent = false
	}
	l.limiter.Allow()
	if !l.silent {
		d.log.Info("restored what another program removed", "object", o.what)
	}
}
