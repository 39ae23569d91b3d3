package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPages writes the tables of the pages of this repository from its results.
func TestPages(t *testing.T) {
	r, err := readResults("results")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for page := range pageTables {
		text, err := os.ReadFile(filepath.Join("..", page))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(root, page)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(root, page), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := r.writePages(root); err != nil {
		t.Fatal(err)
	}
	for page, words := range map[string]string{"README.md": "| TCP, one stream, up / down |", "docs/comparison.md": "| share of untranslated IPv6 | tnat64 | TNAT64 shim |"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil || !strings.Contains(string(text), words) || !strings.Contains(string(text), "at commit "+r.Machine.Commit) {
			t.Errorf("%s has no %q of commit %s: %v", page, words, r.Machine.Commit, err)
		}
	}
	r.Quick = true
	if err := r.writePages(root); err == nil {
		t.Error("a quick run is quoted")
	}
}

func TestReplaceTable(t *testing.T) {
	const page = "a\n<!-- benchmarks: x -->\nold\n<!-- /benchmarks -->\nb\n"
	got, err := replaceTable([]byte(page), "x", []byte("new\n"))
	if want := strings.Replace(page, "old", "new", 1); err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"a\n", "<!-- benchmarks: x -->\nold\n"} {
		if _, err := replaceTable([]byte(bad), "x", nil); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}
