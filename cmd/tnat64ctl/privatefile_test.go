package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"tnat64d/internal/control"
	"tnat64d/internal/needs"
)

func TestCreatePrivate(t *testing.T) {
	write := func(t *testing.T, name string) {
		t.Helper()
		f, err := createPrivate(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("packets"); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	private := func(t *testing.T, name string) {
		t.Helper()
		fi, err := os.Lstat(name)
		if err != nil || fi.Mode() != 0o600 {
			t.Errorf("%v, %v; want a file of mode 0600", fi.Mode(), err)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != "packets" {
			t.Errorf("it contains %q, %v", b, err)
		}
	}
	before := func(t *testing.T) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), "trace")
		if err := os.WriteFile(name, []byte("before"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, 0o666); err != nil {
			t.Fatal(err)
		}
		return name
	}
	old := unix.Umask(0)
	defer unix.Umask(old)

	t.Run("new", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "trace")
		write(t, name)
		private(t, name)
	})
	t.Run("whoever has the old file open sees nothing", func(t *testing.T) {
		name := before(t)
		reader, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		write(t, name)
		private(t, name)
		if b, err := io.ReadAll(reader); err != nil || string(b) != "before" {
			t.Errorf("the reader of the old file gets %q, %v", b, err)
		}
	})
	t.Run("hard link", func(t *testing.T) {
		name := before(t)
		if err := os.Link(name, name+"2"); err != nil {
			t.Fatal(err)
		}
		write(t, name)
		private(t, name)
		if b, _ := os.ReadFile(name + "2"); string(b) != "before" {
			t.Errorf("the other name of the old file has %q", b)
		}
	})
	t.Run("symbolic link", func(t *testing.T) {
		name := before(t)
		for _, target := range []string{name, name + ".absent"} {
			link := filepath.Join(t.TempDir(), "link")
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
			if _, err := createPrivate(t.Context(), link); err == nil || !strings.Contains(err.Error(), "is a symbolic link") {
				t.Errorf("link to %s: %v", target, err)
			}
		}
		if b, _ := os.ReadFile(name); string(b) != "before" {
			t.Errorf("what the link leads to has %q", b)
		}
		if _, err := os.Lstat(name + ".absent"); !os.IsNotExist(err) {
			t.Errorf("what the dangling link leads to: %v", err)
		}
	})
	t.Run("named pipe", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "pipe")
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		got := make(chan string)
		go func() {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Error(err)
			}
			got <- string(b)
		}()
		write(t, name)
		if s := <-got; s != "packets" {
			t.Errorf("the pipe's reader gets %q", s)
		}
	})
	t.Run("named pipe without a reader", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "pipe")
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if _, err := createPrivate(ctx, name); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted while it waits: %v", err)
		}
	})
	t.Run("named pipe whose reader has stopped", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "pipe")
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		reader, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		ctx, cancel := context.WithCancel(t.Context())
		s, err := createTrace(ctx, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		cancel()
		for err == nil {
			err = s.packet(&control.Record{}, control.Packet{Data: make([]byte, 1<<10), Len: 1 << 10}, pcapgo.NgPacketOptions{})
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("interrupted while the pipe is full: %v", err)
		}
	})
	t.Run("device", func(t *testing.T) { write(t, "/dev/null") })
	t.Run("link to a device", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink("/dev/null", link); err != nil {
			t.Fatal(err)
		}
		write(t, link)
	})
	t.Run("directory", func(t *testing.T) {
		if _, err := createPrivate(t.Context(), t.TempDir()); err == nil {
			t.Error("a directory is no file")
		}
	})
}

// A local user lays traps in a directory like /tmp for root, who traces into a
// file there.
func TestHostileCreatePrivateInSharedDirectory(t *testing.T) {
	needs.Root(t, "files of other users")
	const user = 65534
	dir := t.TempDir()
	if err := os.Chmod(dir, os.ModeSticky|0o777); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		lay  func(path string) error
		want string // of the error; empty: root gets a file of its own
	}{
		{"file", func(p string) error { return os.WriteFile(p, nil, 0o666) }, ""},
		{"named pipe", func(p string) error { return unix.Mkfifo(p, 0o666) }, "belongs to user 65534"},
		{"link to a file of root", func(p string) error { return os.Symlink(victim, p) }, "belongs to user 65534"},
		{"link to a device", func(p string) error { return os.Symlink("/dev/null", p) }, "belongs to user 65534"},
		{"hard link to a file of root", func(p string) error { return os.Link(victim, p) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
			if err := c.lay(path); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(c.name, "hard") {
				if err := os.Lchown(path, user, user); err != nil {
					t.Fatal(err)
				}
			}
			f, err := createPrivate(t.Context(), path)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want %s", err, c.want)
				}
			} else if err != nil {
				t.Error(err)
			}
			if err == nil {
				defer f.Close()
				var st unix.Stat_t
				if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o600 {
					t.Errorf("root writes to a file of user %d with mode %o, %v", st.Uid, st.Mode, err)
				}
			}
			if b, err := os.ReadFile(victim); string(b) != "precious" {
				t.Errorf("root's other file has %q, %v", b, err)
			}
		})
	}
}
