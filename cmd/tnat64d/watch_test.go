package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"tnat64d/clat"
	"tnat64d/clat/host"
	"tnat64d/datapath/engine"
	"tnat64d/datapath/steer"
	"tnat64d/internal/config"
	"tnat64d/internal/control"
	"tnat64d/internal/daemon"
)

// watched answers whoever watches.
type watched struct{}

func (watched) Status() control.Status                  { return control.Status{} }
func (watched) Trace(func(string, engine.Seen)) error   { return nil }
func (watched) Nudge(control.Nudge, control.Peer) error { return nil }

// TestWatchersHearOfPrefixes: what a finder has heard is news for those who
// watch, also if nothing follows from it.
func TestWatchersHearOfPrefixes(t *testing.T) {
	kernel, err := host.New(steer.NewPrograms().Foreign)
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	log := slog.New(slog.DiscardHandler)
	d := newDaemon(t.Context(), kernel, steer.NewPrograms(), config.Config{}, daemon.NewStartup(log), log)
	d.rec = clat.NewReconciler(kernel, d.opener, nil, log)
	d.tick = time.AfterFunc(time.Hour, func() {})
	d.retry.start(func() {})
	d.conf.CLAT.Enable = config.Never
	defer d.tick.Stop()
	defer d.retry.stop()

	socket := filepath.Join(t.TempDir(), "control")
	if d.report.server, err = control.NewServer(control.CLATDaemon, socket, watched{}, log); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	ended := make(chan struct{})
	go func() { d.report.server.Run(ctx); close(ended) }()
	told := make(chan struct{}, 1)
	go control.NewClient(socket).Watch(ctx, func(control.Status) error { told <- struct{}{}; return nil })
	defer func() { cancel(); <-ended }()
	for n := range 4 { // the present state first; then why there is no CLAT is new
		select {
		case <-told:
		case <-ctx.Done():
			t.Fatalf("told %d times", n)
		}
		if err := d.handle(prefixChanged{}); err != nil {
			t.Fatal(err)
		}
	}
}
