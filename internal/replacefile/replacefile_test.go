package replacefile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	file, failed := filepath.Join(dir, "file"), errors.New("failed")
	for _, c := range []struct {
		name, text string
		err        error
		want       string
	}{
		{"new", "first", nil, "first"},
		{"replaced", "second", nil, "second"},
		{"failed", "half", failed, "second"},
	} {
		err := Write(file, func(w io.Writer) error {
			io.WriteString(w, c.text)
			return c.err
		})
		if got, _ := os.ReadFile(file); !errors.Is(err, c.err) || string(got) != c.want {
			t.Errorf("%s: %v, the file has %q, want %q", c.name, err, got, c.want)
		}
	}
	st, err := os.Stat(file)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("left behind: %v, %v", all, err)
	}
	// A symbolic link is replaced, and not what it leads to.
	other := filepath.Join(dir, "other")
	if err := errors.Join(os.Symlink(file, other), Write(other, func(io.Writer) error { return nil })); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(file); string(got) != "second" {
		t.Errorf("what the link led to has %q", got)
	}
	if Write(filepath.Join(dir, "none", "file"), func(io.Writer) error { return nil }) == nil {
		t.Error("no error without a directory")
	}
}
