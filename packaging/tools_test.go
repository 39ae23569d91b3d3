package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tnat64d/internal/needs"
)

// need skips a test where a program is missing; where the tests are to be
// complete, that is a failure.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		needs.That(t, false, p)
	}
}

// output runs a command that must succeed.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func lines(text string) []string {
	return strings.Split(strings.TrimRight(text, "\n"), "\n")
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// program unpacks a Debian package and returns the path of the program in it.
func program(t *testing.T, deb, name string) string {
	t.Helper()
	root := t.TempDir()
	output(t, "dpkg-deb", "-x", deb, root)
	return filepath.Join(root, "usr/bin", name)
}
