package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// database returns the URL and the version of the newest vulnerability data
// that the module proxy has, or of the newest in the module cache where the
// proxy does not answer.
func database() (url, version string, err error) {
	empty, err := os.MkdirTemp("", "vulncheck-") // outside of any module
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(empty)
	cmd := exec.Command("go", "mod", "download", "-json", "golang.org/x/vulndb@latest")
	cmd.Dir = empty
	out, failed := cmd.Output()
	var m struct{ Dir, Version, Error string }
	if err := json.Unmarshal(out, &m); failed == nil && err == nil && m.Dir != "" {
		return entries(m.Dir), m.Version, nil
	}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return "", "", fmt.Errorf("go env GOMODCACHE: %w", err)
	}
	dirs, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(cache)), "golang.org", "x", "vulndb@v*"))
	if len(dirs) == 0 {
		return "", "", fmt.Errorf("no vulnerability data: the module proxy does not give golang.org/x/vulndb (%v %s), and the module cache has none", failed, m.Error)
	}
	dir := slices.Max(dirs) // pseudo-versions sort by time
	_, version, _ = strings.Cut(filepath.Base(dir), "@")
	return entries(dir), version, nil
}

// entries is where a version of golang.org/x/vulndb has its OSV entries, one
// file each, as govulncheck takes them.
func entries(dir string) string { return "file://" + filepath.Join(dir, "data", "osv") }
