package daemon

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Startup tells systemd that a daemon is starting, has started, and is alive (see
// sd_notify(3)). A process has one, and one goroutine at a time uses it.
type Startup struct {
	log  *slog.Logger
	over bool
}

// NewStartup returns the Startup of a process that is starting.
func NewStartup(log *slog.Logger) *Startup { return &Startup{log: log} }

// Over reports whether systemd has been told that the start is over.
func (s *Startup) Over() bool { return s.over }

// Ready tells systemd that the start is over, and what else state says.
func (s *Startup) Ready(state ...string) {
	message := daemon.SdNotifyReady
	for _, more := range state {
		message += "\n" + more
	}
	Notify(s.log, message)
	s.over = true
}

// Alive tells the watchdog of systemd that the process is alive. During the start it
// does nothing: that would arm the watchdog (systemd 252), which EXTEND_TIMEOUT_USEC
// does not extend.
func (s *Startup) Alive() {
	if s.over {
		Notify(s.log, daemon.SdNotifyWatchdog)
	}
}

// Extend tells systemd that the process may not answer for as long as limit, until
// the caller calls done. During the start it extends the limit of the start. Later it
// raises that of the watchdog to limit if it is lower.
func (s *Startup) Extend(limit time.Duration) (done func()) {
	if !s.over {
		Notify(s.log, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", limit.Microseconds()))
		return func() {}
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 || every >= limit {
		return func() {}
	}
	Notify(s.log, watchdog(limit))
	return func() { Notify(s.log, watchdog(every)) }
}

// watchdog is the message that sets the limit of the watchdog and restarts it.
func watchdog(limit time.Duration) string {
	return fmt.Sprintf("WATCHDOG_USEC=%d\n%s", limit.Microseconds(), daemon.SdNotifyWatchdog)
}
