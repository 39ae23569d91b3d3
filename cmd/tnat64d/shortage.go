package main

import (
	"context"
	"log/slog"
	"time"

	"tnat64d/internal/cause"
	"tnat64d/internal/config"
	"tnat64d/internal/daemon"
	"tnat64d/internal/fdstore"
)

// startDescriptors is how many file descriptors the daemon opens before it
// looks for a CLAT: netlink and control sockets, the journal, timers.
const startDescriptors = 24

// loadWhenPossible reads the configuration. While resources are lacking it
// retries, like [whenPossible]. With check it does not retry.
func loadWhenPossible(ctx context.Context, file string, check bool, start *daemon.Startup, log *slog.Logger) (c config.Config, warnings []config.Problem, err error) {
	load := func() error {
		c, warnings, err = config.Load(file)
		return err
	}
	if check {
		err = load()
		return c, warnings, err
	}
	err = whenPossible(ctx, config.Default().CLAT.TUN, start, log, load)
	return c, warnings, err
}

// serveWhenPossible runs the daemon until ctx ends. While resources are lacking
// it retries, like [whenPossible]. passed are the descriptors that the service
// manager has passed.
func serveWhenPossible(ctx context.Context, file string, c config.Config, passed []fdstore.Descriptor, start *daemon.Startup, log *slog.Logger) error {
	return whenPossible(ctx, c.CLAT.TUN, start, log, func() error {
		if err := cause.Descriptors(startDescriptors); err != nil {
			return err
		}
		once := passed
		passed = nil
		return serve(ctx, file, c, once, start, log)
	})
}

// whenPossible calls step until it returns nil or an error other than a lack of
// resources, with backoff, and returns that. A lack of file descriptors or memory
// passes, and says nothing about the configuration or the kernel: it is logged and
// told to systemd. whenPossible returns nil when ctx ends while it waits.
func whenPossible(ctx context.Context, tunName string, start *daemon.Startup, log *slog.Logger, step func() error) error {
	for failures := 1; ; failures++ {
		err := step()
		if ctx.Err() != nil || cause.Of(err) != cause.Resource {
			return err
		}
		wait := retries.After(failures)
		_, explained := explain(err, tunName)
		// Report READY: systemd would end a start that takes long.
		start.Ready("STATUS=" + explained.Error())
		log.Error("cannot start yet; retrying", "reason", explained, "hint", resourceHint(err), "after", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
