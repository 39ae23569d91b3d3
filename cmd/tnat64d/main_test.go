package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tnat64d/internal/needs"
	"tnat64d/internal/say"
)

// The test binary is tnat64d when it is called by that name.
func TestMain(m *testing.M) {
	// The labs wait for the kernel's DAD most of the time, not for a CPU.
	testing.Init()
	flag.Set("test.parallel", "8")
	testscript.Main(m, map[string]func(){"tnat64d": main, "tnat64d-starved": starved})
}

// TestScripts runs the command lines that touch nothing, as a user types them.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// daemonPath returns a path at which this binary is the daemon.
func daemonPath(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tnat64d")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeConfig writes a configuration file.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tnat64d.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// directories keeps a daemon's files out of /run and /var/lib.
func directories(t *testing.T) []string {
	dir := t.TempDir()
	return append(os.Environ(), "RUNTIME_DIRECTORY="+filepath.Join(dir, "run"), "STATE_DIRECTORY="+filepath.Join(dir, "lib"))
}

// needRoot skips a test, or fails it where privileged tests are required.
func needRoot(t *testing.T) {
	t.Helper()
	needs.Root(t, "makes network namespaces")
}

// output is what a daemon writes, readable while it does.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// exitCode runs cmd to its end.
func exitCode(cmd *exec.Cmd) (int, string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return ee.ExitCode(), stderr.String(), nil
	}
	return 0, stderr.String(), err
}

// expectFailure runs cmd, which must end with status 1, one sentence and a hint.
func expectFailure(t *testing.T, cmd *exec.Cmd, sentence string) {
	t.Helper()
	code, stderr, err := exitCode(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if code != say.StatusError {
		t.Errorf("exit status %d, want 1", code)
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if len(lines) < 2 {
		t.Fatalf("stderr: %q", stderr)
	}
	said, hint := lines[len(lines)-2], lines[len(lines)-1]
	if !strings.HasPrefix(said, "tnat64d: ") || !strings.Contains(said, sentence) {
		t.Errorf("it says %q, want %q", said, sentence)
	}
	if !strings.HasPrefix(hint, "hint: ") {
		t.Errorf("no hint: %q", hint)
	}
	t.Log(said + "\n" + hint)
}

// command is a process that cannot outlive its test, nor keep it.
func command(t *testing.T, path string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	return cmd
}
