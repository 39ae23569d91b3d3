package main

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"tnat64d/clat/plan"
	"tnat64d/internal/config"
)

// TestReloadEndsBackoff mends a configuration with which a CLAT failed: the next
// attempt is due at once, although it has the same addresses.
func TestReloadEndsBackoff(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tnat64d.toml")
	d := &tnat64d{
		log: slog.New(slog.DiscardHandler), file: file, conf: config.Default(), judge: &platJudge{},
		uplinks: []*uplink{{failures: 5, attempt: plan.Attempt{TUN: "clat0", IPv4: netip.MustParseAddr("192.0.0.1")}}},
	}
	for _, c := range []struct {
		text   string
		failed bool
	}{{"[clat]\nenable = 5\n", true}, {"[clat]\nenable = \"never\"\n", false}} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		d.reload()
		if u := d.uplinks[0]; (u.failures > 0) != c.failed || (u.attempt != plan.Attempt{}) != c.failed {
			t.Errorf("after %q: %d failures, attempt %+v", c.text, u.failures, u.attempt)
		}
	}
}
