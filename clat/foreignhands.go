package clat

import (
	"maps"
	"time"

	"golang.org/x/time/rate"
)

// object is something of ours that other programs may remove, by its words.
type object struct {
	link int // of the uplink, or what is guarded
	what string
}

// foreignHands limits how often we put back what another program removes:
// five times at once, which is enough for a network manager that starts over,
// and then every ten seconds, so that there is no fight with one that insists.
// Each object has its own: one event may cost all of them at once.
type foreignHands struct {
	limiter *rate.Limiter
	silent  bool
}

const (
	putBackEvery = 10 * time.Second
	putBackBurst = 5
)

// allow reports whether what may be put back now; if not it asks to be called
// again.
func (c *running) allow(what string) bool { return c.rec.allow(object{c.uplink.Index, what}) }

func (r *Reconciler) allow(o object) bool {
	f := r.hands[o]
	if f == nil {
		// Those that have rested are as good as new ones.
		maps.DeleteFunc(r.hands, func(_ object, f *foreignHands) bool { return f.limiter.Tokens() >= putBackBurst })
		f = &foreignHands{limiter: rate.NewLimiter(rate.Every(putBackEvery), putBackBurst)}
		r.hands[o] = f
	}
	if f.limiter.Tokens() >= putBackBurst {
		f.silent = false
	}
	res := f.limiter.Reserve()
	if wait := res.Delay(); wait > 0 {
		res.Cancel()
		if !f.silent {
			f.silent = true
			r.log.Warn("another program keeps removing what is ours; putting it back every 10 seconds, and silently", "object", o.what)
		}
		r.retryIn(wait)
		return false
	}
	if !f.silent {
		r.log.Info("put back what another program removed", "object", o.what)
	}
	return true
}
