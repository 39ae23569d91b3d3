package daemon

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// ready is whether systemd has been told that the start of this process is over.
var ready atomic.Bool

// Ready tells systemd that the start is over, and what else state says (see
// sd_notify(3)).
func Ready(log *slog.Logger, state ...string) {
	message := daemon.SdNotifyReady
	for _, s := range state {
		message += "\n" + s
	}
	Notify(log, message)
	ready.Store(true)
}

// Alive tells the watchdog of systemd that the process is alive. During the start it
// does nothing: that would arm the watchdog (systemd 252), which EXTEND_TIMEOUT_USEC does not
// extend.
func Alive(log *slog.Logger) {
	if ready.Load() {
		Notify(log, daemon.SdNotifyWatchdog)
	}
}

// Extend tells systemd that the process may not answer for as long as limit, until
// the caller calls over. During the start it extends the limit of the start. Later it
// sets the watchdog's to at least limit meanwhile.
func Extend(log *slog.Logger, limit time.Duration) (over func()) {
	if !ready.Load() {
		Notify(log, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", limit.Microseconds()))
		return func() {}
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 || every >= limit {
		return func() {}
	}
	Notify(log, watchdog(limit))
	return func() { Notify(log, watchdog(every)) }
}

// watchdog is the message that sets the limit of the watchdog and restarts it.
func watchdog(limit time.Duration) string {
	return fmt.Sprintf("WATCHDOG_USEC=%d\n%s", limit.Microseconds(), daemon.SdNotifyWatchdog)
}
