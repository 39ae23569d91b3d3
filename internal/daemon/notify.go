package daemon

import (
	"log/slog"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notify tells systemd the state of the daemon, if systemd has started it (see
// sd_notify(3)).
func Notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Debug("cannot notify systemd", "reason", err)
	}
}
