package config

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"tnat64d/internal/regularfile"
)

// TestNotRegular is refused, and not waited for.
func TestNotRegular(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, t.TempDir(), "/dev/zero"} {
		_, _, err := Load(path)
		_, gateway := LoadGateway(path)
		_, shim := LoadShim(path)
		for _, err := range []error{err, gateway, shim} {
			if !errors.Is(err, regularfile.ErrNotRegular) {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if _, _, err := Load("/dev/null"); err != nil {
		t.Errorf("/dev/null is no empty file: %v", err)
	}
}
