package clat

import (
	"log/slog"
	"time"

	"golang.org/x/time/rate"
)

// foreignHands limits how often we put back what another program removes:
// five times at once, which is enough for a network manager that starts over,
// and then every ten seconds, so that there is no fight with one that insists.
type foreignHands struct {
	limiter *rate.Limiter
	log     *slog.Logger
	silent  bool
}

const (
	putBackEvery = 10 * time.Second
	putBackBurst = 5
)

func newForeignHands(log *slog.Logger) foreignHands {
	return foreignHands{limiter: rate.NewLimiter(rate.Every(putBackEvery), putBackBurst), log: log}
}

// allow returns 0 if what may be put back now, or how long to wait.
func (f *foreignHands) allow(what string) time.Duration {
	if f.limiter.Tokens() >= putBackBurst {
		f.silent = false
	}
	res := f.limiter.Reserve()
	if wait := res.Delay(); wait > 0 {
		res.Cancel()
		if !f.silent {
			f.silent = true
			f.log.Warn("another program keeps removing what is ours; putting it back every 10 seconds, and silently", "object", what)
		}
		return wait
	}
	if !f.silent {
		f.log.Info("put back what another program removed", "object", what)
	}
	return 0
}
