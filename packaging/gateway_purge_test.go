package packaging

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Removing tnat64-gateway keeps the addresses of its hosts; purging it leaves
// nothing but the administrator's file. dpkg runs the package's scripts on a tree
// of its own.
func TestGatewayPurge(t *testing.T) {
	b := build(t)
	need(t, "dpkg", "dpkg-query", "deb-systemd-helper", "systemd-sysusers")
	if os.Getuid() != 0 {
		t.Skip("dpkg --root needs root")
	}
	root := t.TempDir()
	dpkg := func(args ...string) {
		t.Helper()
		output(t, "dpkg", append([]string{
			"--root=" + root, "--force-script-chrootless", "--force-depends", "--no-triggers", "--log=" + filepath.Join(root, "log"),
		}, args...)...)
	}
	put := func(name string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	there := func(name string) bool {
		_, err := os.Lstat(filepath.Join(root, name))
		return err == nil
	}
	if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg/updates"), 0o755); err != nil {
		t.Fatal(err)
	}
	dpkg("--install", gatewayBeside(b.deb))
	if !there("usr/bin/tnat64-gateway") {
		t.Fatal("the package is not installed")
	}
	if passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd")); err != nil || !strings.Contains(string(passwd), "tnat64-gateway:") {
		t.Errorf("the package does not make its user: %v", err)
	}
	const state, socket, configuration = "var/lib/tnat64-gateway/maps", "run/tnat64-gateway/gateway.sock", "etc/tnat64/gateway.toml"
	for _, f := range []string{state, socket, configuration} {
		put(f)
	}
	dpkg("--remove", "tnat64-gateway")
	for f, want := range map[string]bool{"usr/bin/tnat64-gateway": false, state: true, socket: false, configuration: true} {
		if there(f) != want {
			t.Errorf("after removal: %s is there: %v", f, !want)
		}
	}
	dpkg("--purge", "tnat64-gateway")
	if !there(configuration) {
		t.Error("the purge has removed the administrator's file")
	}
	os.RemoveAll(filepath.Join(root, "etc/tnat64"))
	// What is left of the package by name, but for dpkg's own and the user, whom
	// the script leaves alone on another tree.
	filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if name := strings.TrimPrefix(path, root); err == nil && strings.Contains(name, "tnat64") {
			t.Errorf("after the purge: %s", name)
		}
		return nil
	})
}
