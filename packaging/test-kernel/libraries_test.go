package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestELFLibraries compares with what the dynamic linker of this machine finds.
func TestELFLibraries(t *testing.T) {
	for _, name := range []string{"sh", "ip", "curl"} {
		file, err := exec.LookPath(name)
		if err != nil {
			t.Logf("%s is not installed", name)
			continue
		}
		want, err := lddLibraries(t.Context(), file)
		if err != nil {
			t.Skip(err)
		}
		if file, err = filepath.EvalSymlinks(file); err != nil {
			t.Fatal(err)
		}
		got, err := elfLibraries("/", file)
		if err != nil {
			t.Fatal(err)
		}
		base := func(paths []string) string {
			var names []string
			for _, p := range paths {
				names = append(names, filepath.Base(p))
			}
			slices.Sort(names)
			return strings.Join(slices.Compact(names), " ")
		}
		if base(got) != base(want) {
			t.Errorf("%s: %s\nwant %s", name, base(got), base(want))
		}
	}
}

func TestMissingLibraryIsNamed(t *testing.T) {
	if _, err := findLibrary(t.TempDir(), "libnone.so.1", nil); err == nil || !strings.Contains(err.Error(), "libnone.so.1") {
		t.Errorf("error %v", err)
	}
}
