package packaging

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The package has the licence of every module that its programs name
// (`go version -m`), and of Go's standard library.
func TestNotices(t *testing.T) {
	b := build(t)
	text := output(t, "gzip", "-dc", filepath.Join(b.root, "usr/share/doc/tnat64d/third-party-notices.gz"))
	programs, err := os.ReadDir(filepath.Join(b.root, "usr/bin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		info, err := buildinfo.ReadFile(filepath.Join(b.root, "usr/bin", p.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if len(info.Deps) == 0 {
			t.Errorf("%s names no modules", p.Name())
		}
		wanted := []string{"Go's standard library " + info.GoVersion}
		for _, m := range info.Deps {
			wanted = append(wanted, m.Path+" "+m.Version)
		}
		for _, m := range wanted {
			if !strings.Contains(text, "\n"+m+": LICEN") && !strings.Contains(text, "\n"+m+": COPYING") {
				t.Errorf("there is no licence of %s, a part of %s", m, p.Name())
			}
		}
	}
	for _, words := range []string{"Apache License", "Redistribution and use in source and binary forms", "Permission is hereby granted"} {
		if !strings.Contains(text, words) {
			t.Errorf("no %q", words)
		}
	}
}
