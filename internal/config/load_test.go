package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.toml")
	if err := os.WriteFile(good, []byte("[clat]\nmtu = 1400\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := Load(good)
	if err != nil || c.CLAT.MTU != 1400 {
		t.Errorf("mtu %d, error %v", c.CLAT.MTU, err)
	}

	if _, _, err := Load(filepath.Join(dir, "absent.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a named file that is absent: %v", err)
	}
	long := filepath.Join(dir, "long.toml")
	if err := errors.Join(os.WriteFile(long, nil, 0o600), os.Truncate(long, 1<<40)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(long); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("a file of 1 TiB: %v", err)
	}
}

func TestLoadDefaultPathAbsent(t *testing.T) {
	if _, err := os.Lstat(DefaultPath); !errors.Is(err, fs.ErrNotExist) {
		t.Skip("this machine has a " + DefaultPath)
	}
	c, warnings, err := Load("")
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, warnings %v", err, warnings)
	}
	if d := cmp.Diff(Default(), c, cmpNetip); d != "" {
		t.Error(d)
	}
	if _, _, err := Load(DefaultPath); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("named explicitly: %v", err)
	}
}
