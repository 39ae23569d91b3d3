package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hook runs the dispatcher hook with a tnat64ctl that notes its arguments and
// then does as told, and returns what it noted.
func hook(t *testing.T, then string, env []string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	noted := filepath.Join(dir, "noted")
	fake := "#!/bin/sh\necho \"$@\" >>" + noted + "\n" + then + "\n"
	if err := os.WriteFile(filepath.Join(dir, "tnat64ctl"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", append([]string{"networkmanager/50-tnat64"}, args...)...)
	cmd.Env = append(env, "PATH="+dir+":/usr/bin:/bin")
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%q: %v, says %q", args, err, out)
	}
	data, err := os.ReadFile(noted)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestDispatcherHook(t *testing.T) {
	need(t, "sh", "timeout")
	dns := []string{"IP6_NAMESERVERS=2001:db8::53 2001:db8::54", "VPN_IP6_NAMESERVERS=2001:db8:666::1"}
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"up", dns, []string{"wlan0", "up"}, "nudge -interface wlan0 -dns 2001:db8::53,2001:db8::54"},
		{"one server", []string{"IP6_NAMESERVERS=fe80::1"}, []string{"wlan0", "dhcp6-change"}, "nudge -interface wlan0 -dns fe80::1"},
		{"no server", nil, []string{"wlan0", "dhcp4-change"}, "nudge -interface wlan0"},
		{"down", dns, []string{"wlan0", "down"}, "nudge -interface wlan0"},
		{"no interface", nil, []string{"", "connectivity-change"}, "nudge"},
		{"none", nil, []string{"none", "dns-change"}, "nudge"},
		{"our own", dns, []string{"clat0", "up"}, ""},
		{"another of ours", nil, []string{"clat1", "down"}, ""},
		{"VPN", dns, []string{"wlan0", "vpn-up"}, ""},
		{"host name", nil, []string{"", "hostname"}, ""},
		{"too early", dns, []string{"wlan0", "pre-up"}, ""},
		{"nothing", nil, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := hook(t, "", c.env, c.args...); got != c.want {
				t.Errorf("tnat64ctl %s, want %s", got, c.want)
			}
		})
	}
}

// NetworkManager waits for the hook, so it must not wait, nor fail.
func TestDispatcherHookNeverHoldsUp(t *testing.T) {
	need(t, "sh", "timeout")
	t.Parallel()
	start := time.Now()
	hook(t, "echo noise; exec sleep 60", nil, "wlan0", "up")
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it waited %v for tnat64ctl", took)
	}
	hook(t, "echo failure >&2; exit 1", nil, "wlan0", "up")
}

func TestDispatcherHookWithoutTnat64ctl(t *testing.T) {
	need(t, "sh", "timeout")
	cmd := exec.Command("sh", "networkmanager/50-tnat64", "wlan0", "up")
	cmd.Env = []string{"PATH=/nonexistent"}
	cmd.Path, _ = exec.LookPath("sh")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v, says %q", err, out)
	}
}
