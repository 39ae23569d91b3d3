package regularfile

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	l, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(syscall.Mkfifo(at("pipe"), 0o600), os.WriteFile(at("file"), []byte("text"), 0o600), os.Symlink("file", at("link")), os.Symlink("pipe", at("link to a pipe"))); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]string{
		at("pipe"): "a pipe", at("link to a pipe"): "a pipe", at("socket"): "a socket", dir: "a directory", "/dev/zero": "a device",
	} {
		if b, err := Read(path, 10); b != nil || !errors.Is(err, ErrNotRegular) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), kind) {
			t.Errorf("%s: %q, %v, want an error with %q", path, b, err, kind)
		}
	}
	if _, err := Read(at("absent"), 10); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotRegular) {
		t.Errorf("absent: %v", err)
	}
	for _, path := range []string{at("file"), at("link")} {
		if b, err := Read(path, 3); err != nil || string(b) != "tex" {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
}
