package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"tnat64d/clat"
	"tnat64d/clat/plan"
	"tnat64d/internal/daemon"
)

// A warning is logged again when it is about something else, not when only its
// sentence has changed.
func TestWarningIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	l := slog.New(slog.NewTextHandler(&log, nil))
	r := &reporter{log: l, start: daemon.NewStartup(l), paths: &datapaths{}}
	u := &uplink{Uplink: plan.Uplink{Name: "wlan0", Index: 2}}
	for _, w := range []plan.Warning{
		{Kind: plan.ICMPSourceReplaced, About: "192.0.0.2", Text: "the source is 192.0.0.3"},
		{Kind: plan.ICMPSourceReplaced, About: "192.0.0.2", Text: "the source is 192.0.0.4"},
		{Kind: plan.ICMPSourceReplaced, About: "192.0.2.1", Text: "the source is 192.0.0.5"},
		{Kind: plan.ICMPSourceTaken, About: "192.0.2.1", Text: "no source is free"},
	} {
		u.want = plan.Desired{Uplink: u.Uplink, Warnings: []plan.Warning{w}}
		r.progress(u, clat.Down)
	}
	var got []string
	for _, line := range strings.Split(log.String(), "\n") {
		if _, message, ok := strings.Cut(line, "level=WARN msg="); ok {
			got = append(got, message)
		}
	}
	want := []string{
		`"the source is 192.0.0.3" iface=wlan0`,
		`"the source is 192.0.0.5" iface=wlan0`,
		`"no source is free" iface=wlan0`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
