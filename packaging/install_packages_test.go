package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Packages that the tests need bring servers, which Debian starts and enables: the
// machine must not go on serving them to its network. What was there stays.
func TestInstallPackagesLeavesNoServices(t *testing.T) {
	need(t, "sh", "sed")
	dir := t.TempDir()
	noted := filepath.Join(dir, "noted")
	for name, text := range map[string]string{
		"id":         "echo 0",
		"apt-get":    "echo apt-get $1 >>" + noted,
		"dpkg-query": "case $3 in here) echo installed ;; esac",
		"dpkg":       "printf '/.\\n/usr/sbin/%sd\\n/lib/systemd/system/%s.service\\n/usr/lib/systemd/system/%s@.service\\n/lib/systemd/system/off.service\\n/usr/lib/systemd/system/%s.socket\\n' $2 $2 $2 $2",
		"systemctl":  "case \"$*\" in *is-enabled*off*) echo static ;; *is-enabled*) echo enabled ;; *disable*) echo systemctl \"$@\" >>" + noted + " ;; esac",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("./install-packages.sh", "here", "ssh", "named")
	c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	want := `apt-get update
apt-get install
systemctl -q disable --now ssh.service
systemctl -q disable --now ssh.socket
systemctl -q disable --now named.service
systemctl -q disable --now named.socket`
	if got := strings.TrimSpace(readFile(t, noted)); got != want {
		t.Errorf("it runs\n%s\nwant\n%s", got, want)
	}
}
