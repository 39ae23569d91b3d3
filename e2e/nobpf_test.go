package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// withoutBPF returns a program that is tnat64d with CAP_NET_ADMIN and
// CAP_NET_RAW only: the kernel refuses it BPF.
func withoutBPF(t *testing.T) string {
	t.Helper()
	needProgram(t, "setpriv")
	path := filepath.Join(t.TempDir(), "tnat64d")
	script := fmt.Sprintf("#!/bin/sh\nexec setpriv --bounding-set=-all,+net_admin,+net_raw %s \"$@\"\n", built(t, "tnat64d"))
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
