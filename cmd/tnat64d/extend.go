package main

import (
	"fmt"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"tnat64d/internal/daemon"
)

// stepLimit is how long loading one set of BPF programs may take. The verifier of
// an emulated machine with an eighth of a CPU takes some minutes.
const stepLimit = 10 * time.Minute

// extend tells systemd that a step begins which may take until stepLimit, during
// which the loop answers nothing: neither the limit of a start nor the watchdog
// ends the daemon before (see sd_notify(3), EXTEND_TIMEOUT_USEC). A step that hangs
// still is noticed, later.
func extend(log *slog.Logger) {
	daemon.Notify(log, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\n%s", stepLimit.Microseconds(), systemd.SdNotifyWatchdog))
}
