package clat

import (
	"time"

	"golang.org/x/time/rate"
)

const (
	restoreEvery = 10 * time.Second
	restoreBurst = 5
)

// driftLimit bounds how often one part of our configuration is restored that
// other programs remove or change: five times at once, which is enough for a
// network manager that starts over, and then every ten seconds, so that we do not
// fight a program that insists. Each part has its own limit, as one event may
// remove all of them. The zero driftLimit allows the burst.
//
// Only a restore that succeeds counts. A step that fails is bounded by the backoff
// of failures; if it counted here as well, a part that is restored at the second
// attempt could stay away for longer than restoreEvery.
type driftLimit struct {
	limiter *rate.Limiter // nil: nothing has been restored yet
	silent  bool          // the log has said that restores are no longer logged
}

// mayRestore reports whether a part that has drifted may be restored now. If not,
// it asks to reconcile again when it may. Call restored after success. what names
// the part.
func (l *driftLimit) mayRestore(t tools, what string) bool {
	if l.limiter == nil || l.limiter.Tokens() >= 1 {
		return true
	}
	next := l.limiter.Reserve()
	wait := next.Delay()
	next.Cancel() // only to know when
	if !l.silent {
		l.silent = true
		t.log.Warn("another program keeps removing our configuration; restoring it every 10 s, further restores are not logged", "object", what)
	}
	t.wake.in(wait)
	return false
}

// restored counts and logs that the part has been restored.
func (l *driftLimit) restored(t tools, what string) {
	if l.limiter == nil {
		l.limiter = rate.NewLimiter(rate.Every(restoreEvery), restoreBurst)
	}
	if l.full() {
		l.silent = false
	}
	l.limiter.Allow()
	if !l.silent {
		t.log.Info("restored what another program removed", "object", what)
	}
}

// full reports whether the limit is as good as a new one.
func (l *driftLimit) full() bool { return l.limiter == nil || l.limiter.Tokens() >= restoreBurst }
