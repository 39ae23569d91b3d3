package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tnat64d/internal/needs"
)

// An upgrade, or an installation after a removal, with a configuration that the new
// version refuses: a daemon that runs is left running, and one that does not run is not
// said to.
func TestPostinstRefusedConfiguration(t *testing.T) {
	needs.Root(t, "has a /run of its own")
	need(t, "sh", "unshare")
	for _, c := range []struct {
		state, want string
		said        bool
	}{
		{"active", "", true},
		{"reloading", "", true},
		{"activating", "", true},
		{"inactive", "restart", false},
		{"failed", "restart", false},
	} {
		for script, daemon := range map[string]string{"deb/postinst": "tnat64d", "gateway/postinst": "tnat64-gateway"} {
			dir := t.TempDir()
			noted := filepath.Join(dir, "noted")
			for name, text := range map[string]string{
				"systemd-sysusers": "", "deb-systemd-helper": "", "systemd-cat": "cat >/dev/null",
				"systemctl":          "case $1 in is-active) echo " + c.state + "; [ " + c.state + " = active ] ;; esac",
				"deb-systemd-invoke": "echo $1 >>" + noted,
				daemon:               "echo wrong; exit 2",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			const private = `mount -t tmpfs none /run && mkdir -p /run/systemd/system && mount -t tmpfs none /etc/tnat64 2>/dev/null || { mount -t tmpfs none /etc && mkdir /etc/tnat64; }
: >/etc/tnat64/gateway.toml; exec sh "$0" configure 1.0`
			cmd := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", private, script)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s, %s: %v: %s", script, c.state, err, out)
			}
			did, _ := os.ReadFile(noted)
			if got := strings.TrimSpace(string(did)); got != c.want || strings.Contains(string(out), "keeps running") != c.said {
				t.Errorf("%s, %s: it runs %q and says %q, want %q", script, c.state, got, out, c.want)
			}
		}
	}
}
