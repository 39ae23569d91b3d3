package lab

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tnat64d/internal/needs"
)

// TestPrepareNamespaces makes a directory a mount once, however often it is asked.
func TestPrepareNamespaces(t *testing.T) {
	needs.Root(t, "to mount")
	dir := t.TempDir()
	t.Cleanup(func() {
		for mounts(t, dir) > 0 {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
	})
	for range 3 {
		if err := prepareNamespaces(dir); err != nil {
			t.Fatal(err)
		}
		if n := mounts(t, dir); n != 1 {
			t.Fatalf("%s is mounted %d times", dir, n)
		}
	}
}

// mounts counts the mounts at a path.
func mounts(t *testing.T, path string) (n int) {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && fields[4] == path {
			n++
		}
	}
	return n
}
