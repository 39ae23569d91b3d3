package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestCached(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	broken := errors.New("broken")
	if _, err := cached(cache, "x", func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "*")); len(left) > 0 {
		t.Errorf("a failure leaves %q", left)
	}
	filled := 0
	fill := func(work string) error {
		filled++
		return os.WriteFile(filepath.Join(work, "disk"), nil, 0o644)
	}
	for range 2 {
		dir, err := cached(cache, "x", fill)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "disk")); err != nil {
			t.Error(err)
		}
	}
	if filled != 1 {
		t.Errorf("filled %d times, want once", filled)
	}
	// Another process makes the same meanwhile.
	if _, err := cached(cache, "y", func(work string) error {
		_, err := cached(cache, "y", fill)
		return errors.Join(err, fill(work))
	}); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "*")); len(left) != 2 {
		t.Errorf("the cache has %q, want x and y", left)
	}
}
