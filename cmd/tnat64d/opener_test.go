package main

import (
	"log/slog"
	"testing"
	"time"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/internal/daemon"
	"tnat64d/internal/daemon/daemontest"
)

// TestLoadingExtendsTimeouts checks that systemd hears of the steps that load BPF
// programs before they begin, but for Steer (see TestLoadExtendsTimeouts of e2e). None
// succeeds here: there is no such link.
func TestLoadingExtendsTimeouts(t *testing.T) {
	heard := daemontest.Listen(t)
	log := slog.New(slog.DiscardHandler)
	o := &opener{made: &datapaths{log: log}, log: log, start: daemon.NewStartup(log)}
	nowhere := plan.Uplink{Name: "nowhere", Index: 1 << 30}
	for name, step := range map[string]func(){
		"prepare": func() { o.Prepare(nowhere, 1) },
		"guard":   func() { o.Guard(nowhere.Index, clat.Guarded{}) },
	} {
		t.Run(name, func(t *testing.T) {
			step()
			// What has been sent is there already.
			heard.SetReadDeadline(time.Now().Add(time.Second))
			b := make([]byte, 200)
			n, err := heard.Read(b)
			if got := string(b[:n]); err != nil || got != "EXTEND_TIMEOUT_USEC=600000000" {
				t.Errorf("systemd heard %q, %v", got, err)
			}
		})
	}
}
