package e2e

import (
	"bufio"
	"bytes"
	"context"
	"io"
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
		{"native IPv4", []string{"-native-ipv4"}, []string{"dual-stack", "you are 192.0.2.66", "stands by", "as they were"}},
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

// TestShell types into a shell on the laptop, and into one that joins from
// another terminal: tnat64ctl finds the daemon, and names resolve.
func TestShell(t *testing.T) {
	needRoot(t)
	needProgram(t, "curl")
	built(t, "tnat64d")
	built(t, "tnat64ctl")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, built(t, "tnat64-lab"), "shell")
	cmd.Env = append(lab.WithoutProxies(os.Environ()), "SHELL=/bin/sh")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	join := ""
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if _, path, ok := strings.Cut(lines.Text(), "joins with: sudo "); ok {
			join = path
		}
		if strings.HasPrefix(lines.Text(), "`exit` takes") {
			break
		}
	}
	const typed = "tnat64ctl status\ncurl -sS http://198.51.100.7/\ncurl -sS http://server.example/\n"
	answers := []string{"IPv4 is ready", "hello from the IPv4-only internet, you are 203.0.113."}
	if join == "" {
		t.Errorf("no line says how another terminal joins: %s%s", said.String(), stderr.String())
	} else {
		second := exec.CommandContext(ctx, join)
		second.Env = append(lab.WithoutProxies(os.Environ()), "TERM=dumb")
		second.Stdin = strings.NewReader(typed + "exit 5\n")
		out, errs, status := command(t, second)
		if status != 5 || errs != "" {
			t.Errorf("second terminal: exit status %d, not the shell's, %q", status, errs)
		}
		wants(t, out, answers...)
		if n := strings.Count(out, answers[1]); n != 2 {
			t.Errorf("second terminal: %d answers, want 2: by address and by name", n)
		}
	}
	if _, err := io.WriteString(stdin, strings.ReplaceAll(typed, "status", "status -json")+"exit 7\n"); err != nil {
		t.Error(err)
	}
	stdin.Close()
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
	}
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 7 || stderr.Len() > 0 {
		t.Errorf("exit status %d, not the shell's, %q", status, &stderr)
	}
	wants(t, said.String(), "This shell is on the laptop", `"state": "up"`, answers[1])
	if left := leftovers(t, cmd.Process.Pid); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
