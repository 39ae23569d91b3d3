package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree creates files, and returns their directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// use is a module of which the packages in dirs are in use.
func use(root string, dirs ...string) *source {
	s := &source{root: root, dirs: make(map[string]bool)}
	for _, d := range dirs {
		s.dirs[filepath.Join(root, d)] = true
	}
	return s
}

func TestTexts(t *testing.T) {
	a := tree(t, map[string]string{
		"LICENSE.md": "terms\r\n", "license.go": "package a", "Notice": "thanks",
		"used/deep/a.go": "", "used/COPYING": "other terms", "unused/LICENSE": "not these", "LICENSES/x": "nor these",
	})
	b := tree(t, map[string]string{"LICENCE": "\nterms\n\n", "PATENTS": "grant"})
	got, err := linked{
		{"example.com/a", "v1.0.0"}: use(a, ".", "used/deep"),
		{"example.com/b", "v2.0.0"}: use(b, "."),
	}.texts()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	w := bufio.NewWriter(&text)
	write(w, got)
	w.Flush()
	rule := strings.Repeat("=", 78)
	want := "The programs of this package contain the software below, each under its own\nterms. The licence of tnat64d itself is Apache-2.0.\n"
	for _, s := range [][2]string{
		{"example.com/a v1.0.0: LICENSE.md\nexample.com/b v2.0.0: LICENCE", "terms"},
		{"example.com/a v1.0.0: Notice", "thanks"},
		{"example.com/a v1.0.0: used/COPYING", "other terms"},
		{"example.com/b v2.0.0: PATENTS", "grant"},
	} {
		want += "\n" + rule + "\n" + s[0] + "\n" + rule + "\n\n" + s[1] + "\n"
	}
	if d := cmp.Diff(want, text.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestModuleWithoutLicence(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"nothing":           {"used/a.go": ""},
		"only a notice":     {"NOTICE": "thanks", "used/a.go": ""},
		"only further down": {"used/LICENSE": "terms"},
	} {
		l := linked{{"example.com/a", "v1.0.0"}: use(tree(t, files), "used")}
		if _, err := l.texts(); err == nil || !strings.Contains(err.Error(), "example.com/a v1.0.0: no licence in ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
