// Package needs skips tests that cannot run here, with the reason, or fails them
// where every test has to run: with TNAT64_REQUIRE_PRIVILEGED=1.
package needs

import (
	"os"
	"testing"
)

// That skips or fails a test unless ok. why says what it needs.
func That(t testing.TB, ok bool, why string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("TNAT64_REQUIRE_PRIVILEGED") == "1":
		t.Fatal("needs " + why)
	default:
		t.Skip("needs " + why)
	}
}

// Root skips or fails a test of an ordinary user. what says what takes root.
func Root(t testing.TB, what string) {
	t.Helper()
	That(t, os.Getuid() == 0, "root: "+what)
}
