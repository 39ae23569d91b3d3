package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/lab"
)

// tmpfs mounts a tiny file system in the lab's directory.
func tmpfs(t *testing.T, l *lab.Lab, name string, flags uintptr) string {
	t.Helper()
	dir := filepath.Join(l.Dir, name)
	if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", flags, "size=4096")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves no room on a tiny file system.
func fill(t *testing.T, dir string) {
	t.Helper()
	err := os.WriteFile(filepath.Join(dir, "something"), make([]byte, 1<<16), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the file system is not full: %v", err)
	}
}

// kept is how a daemon is told where to keep what it must not forget.
func kept(dir string) lab.DaemonOptions {
	return lab.DaemonOptions{Env: []string{"RUNTIME_DIRECTORY=" + dir, "STATE_DIRECTORY=" + dir}}
}

// TestNoRoom has no room, or no permission, for journal and secret. The daemon
// works, says so once, and leaves nothing behind, even if it is killed.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		dir     func(t *testing.T, l *lab.Lab) string
		warning string
		warned  int
	}{
		{"full", func(t *testing.T, l *lab.Lab) string {
			dir := tmpfs(t, l, "full", 0)
			fill(t, dir)
			return dir
		}, "no space left on device", 2},
		{"read-only", func(t *testing.T, l *lab.Lab) string {
			return tmpfs(t, l, "read-only", unix.MS_RDONLY)
		}, "read-only file system", 2},
		{"secret is no file", func(t *testing.T, l *lab.Lab) string {
			dir := filepath.Join(l.Dir, "odd")
			if err := os.MkdirAll(filepath.Join(dir, "secret"), 0o755); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "the CLAT IPv6 address will change on restart", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var socket string
			w := newWorldOn(t, stage{
				how: func(l *lab.Lab) lab.DaemonOptions { return kept(c.dir(t, l)) },
				// The socket has no place either.
				prepare: func(l *lab.Lab) error {
					socket = filepath.Join(l.Dir, "tnat64d.sock")
					return os.WriteFile(socket, []byte("no socket"), 0o600)
				},
			})
			w.page(t)
			w.ping(t)
			if n := w.book.lines("level=WARN", c.warning); n != c.warned {
				t.Errorf("%d warnings with %q, not %d", n, c.warning, c.warned)
			}
			if n := w.book.lines("level=ERROR", "no control socket"); n != 1 {
				t.Errorf("%d lines about the control socket", n)
			}
			// The next start takes away what this one leaves, journal or not.
			w.daemon.Kill()
			if err := os.Remove(socket); err != nil {
				t.Fatal(err)
			}
			w.start(built(t, "tnat64d"), true)
			w.ping(t)
			features := 0
			for _, f := range must2(w.daemon.Status(t.Context()))(t).Features {
				if f.Name == "journal" && !f.Available && f.Why != "" {
					features++
				}
			}
			if want := boolInt(c.name == "read-only"); features != want {
				t.Errorf("%d features say that there is no journal, not %d", features, want)
			}
		})
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// must2 fails the test on an error.
func must2(s control.Status, err error) func(t *testing.T) control.Status {
	return func(t *testing.T) control.Status {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// TestSecret finds the same address after each start as long as the secret is
// there, and another one after one that is cut short.
func TestSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{}, "")
	file := filepath.Join(w.Dir, "secret")
	secret, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("the secret has mode %v, %v", info.Mode(), err)
	}
	first := w.clat.IPv6
	restart := func() {
		t.Helper()
		if err := w.daemon.Stop(); err != nil {
			t.Error(err)
		}
		w.start(built(t, "tnat64d"), true)
	}
	restart()
	if w.clat.IPv6 != first {
		t.Errorf("the address is %s, was %s", w.clat.IPv6, first)
	}
	if err := os.WriteFile(file, secret[:5], 0o600); err != nil {
		t.Fatal(err)
	}
	restart()
	if w.clat.IPv6 == first {
		t.Errorf("the address is %s still, without its secret", first)
	}
	if b, err := os.ReadFile(file); err != nil || len(b) != len(secret) {
		t.Errorf("the new secret has %d bytes, %v", len(b), err)
	}
	w.ping(t)
	if n := strings.Count(fmt.Sprint(must(t)(w.Laptop.Snapshot())), "/128 scope 0"); n > 2 { // lo's, and the CLAT's
		t.Errorf("%d addresses /128", n)
	}
}
