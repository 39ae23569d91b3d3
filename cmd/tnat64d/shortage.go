package main

import (
	"context"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"tnat64d/internal/cause"
	"tnat64d/internal/config"
	"tnat64d/internal/daemon"
)

// startDescriptors is how many file descriptors the daemon opens before it
// looks for a CLAT: netlink and control sockets, the journal, timers.
const startDescriptors = 24

// serveWhenPossible runs the daemon until ctx ends. While file descriptors or
// memory are lacking it says so and tries again: they come back, and what the
// daemon would conclude without them would be wrong.
func serveWhenPossible(ctx context.Context, file string, c config.Config, log *slog.Logger) error {
	for failures := 1; ; failures++ {
		err := cause.Descriptors(startDescriptors)
		if err == nil {
			err = serve(ctx, file, c, log)
		}
		if ctx.Err() != nil || cause.Of(err) != cause.Resource {
			return err
		}
		wait := backoff(failures)
		_, explained := explain(err, c.CLAT.TUN)
		// Ready to say what is lacking: systemd would end a start that takes long.
		daemon.Notify(log, systemd.SdNotifyReady+"\nSTATUS="+explained.Error())
		log.Error("cannot start yet; trying again", "reason", explained, "hint", resourceHint(err), "after", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
