package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tnat64d/internal/say"
)

// TestCheck reads a file that has no error and does not fit this host: -check warns,
// and -check-host, which a reload runs first, refuses it.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.toml")
	if err := os.WriteFile(file, []byte("[nat64]\ninside = [\"lo\", \"lan9\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const misfit = `gateway.toml:2:17: nat64.inside: there is no interface "lan9" on this host`
	for flags, want := range map[string]int{"-check": say.StatusOK, "-check-host": say.StatusUsage, "-check -check-host": say.StatusUsage} {
		stderr, err := os.Create(filepath.Join(dir, "stderr"))
		if err != nil {
			t.Fatal(err)
		}
		status := run(t.Context(), append(strings.Fields(flags), "-config", file), io.Discard, stderr)
		stderr.Close()
		said, err := os.ReadFile(stderr.Name())
		if err != nil {
			t.Fatal(err)
		}
		if status != want || !strings.Contains(strings.ReplaceAll(string(said), `\"`, `"`), misfit) {
			t.Errorf("%s: status %d, want %d: %s", flags, status, want, said)
		}
	}
}
