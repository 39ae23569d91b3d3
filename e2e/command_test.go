package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tnat64d/internal/lab"
)

// command runs tnat64-lab as a user does and returns its output, its errors,
// and its exit status.
func command(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Run()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// leftovers are the namespaces and directories of a process's labs.
func leftovers(t *testing.T, pid int) []string {
	t.Helper()
	var left []string
	for _, dir := range []string{"/run/netns", "/run/tnat64-lab"} {
		found, err := filepath.Glob(filepath.Join(dir, "tn64-"+strconv.Itoa(pid)+"-*"))
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, found...)
	}
	return left
}

// TestDemo plays the demo with the system's programs and with its own.
func TestDemo(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name  string
		args  []string
		words []string
	}{
		{"default", nil, []string{"etwork is unreachable", "hello from the IPv4-only internet", "3 received", "(the NAT64)", "Gbit/s", "64:ff9b::c633:6407", "as they were"}},
		{"built-in", []string{"-built-in", "-pref64", "/48", "-mtu", "1400", "-mtu-isp", "1300"},
			[]string{"network is unreachable", "hello from", "3 received", "(the server)", "Gbit/s", "3fff:64:6400:c633:64:700::", "as they were"}},
		{"native IPv4", []string{"-native-ipv4"}, []string{"dual-stack", "you are 192.0.2.66", "stands aside", "as they were"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			built(t, "tnat64d")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, built(t, "tnat64-lab"), append([]string{"demo"}, c.args...)...)
			stdout, stderr, status := command(t, cmd)
			t.Logf("it says:\n%s%s", stdout, stderr)
			if status != 0 {
				t.Errorf("exit status %d", status)
			}
			wants(t, stdout, c.words...)
			if n := strings.Count(stdout, "\n"); n > 15 {
				t.Errorf("%d lines are more than a dozen", n)
			}
			if left := leftovers(t, cmd.Process.Pid); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestDemoInterrupted presses Ctrl-C at several moments.
func TestDemoInterrupted(t *testing.T) {
	needRoot(t)
	path := built(t, "tnat64-lab")
	for _, after := range []time.Duration{100 * time.Millisecond, 2500 * time.Millisecond, 3500 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			cmd := exec.Command(path, "demo")
			time.AfterFunc(after, func() { cmd.Process.Signal(syscall.SIGINT) })
			_, stderr, status := command(t, cmd)
			if status != 1 || !strings.Contains(stderr, "interrupted") {
				t.Errorf("exit status %d, %q", status, stderr)
			}
			if left := leftovers(t, cmd.Process.Pid); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestDemoFails plays the demo with a daemon that does not work.
func TestDemoFails(t *testing.T) {
	needRoot(t)
	broken := filepath.Join(t.TempDir(), "tnat64d")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho no such luck >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(built(t, "tnat64-lab"), "demo", "-tnat64d", broken)
	_, stderr, status := command(t, cmd)
	if status != 1 {
		t.Errorf("exit status %d", status)
	}
	wants(t, stderr, "tnat64d ended at once: exit status 1", "no such luck")
	if left := leftovers(t, cmd.Process.Pid); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestShell types into a shell on the laptop.
func TestShell(t *testing.T) {
	needRoot(t)
	needProgram(t, "curl")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, built(t, "tnat64-lab"), "shell")
	cmd.Env = append(lab.WithoutProxies(os.Environ()), "SHELL=/bin/sh")
	cmd.Stdin = strings.NewReader("curl -sS " + url("/") + "\nexit 7\n")
	stdout, stderr, status := command(t, cmd)
	if status != 7 || stderr != "" {
		t.Errorf("exit status %d, not the shell's, %q", status, stderr)
	}
	wants(t, stdout, "This shell is on the laptop", "hello from the IPv4-only internet, you are 203.0.113.")
	if left := leftovers(t, cmd.Process.Pid); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
