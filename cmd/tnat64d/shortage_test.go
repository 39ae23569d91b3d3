package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/internal/say"
)

// starved is the daemon without a file descriptor to spare, until its limit is
// raised.
func starved() {
	limit := unix.Rlimit{Cur: 3, Max: 64} // standard input, output and error
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(127)
	}
	main()
}

// A configuration that cannot be read for lack of file descriptors is not taken
// for a wrong one: the daemon retries, and systemd, which does not restart it
// after exit status 2, has nothing to conclude.
func TestConfigurationWithoutDescriptors(t *testing.T) {
	daemon, err := exec.LookPath("tnat64d-starved")
	if err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, "[clat]\nenable = \"perhaps\"\n")

	t.Run("check_exits_with_1", func(t *testing.T) {
		code, stderr, err := exitCode(command(t, daemon, "-config", file, "-check"))
		if err != nil {
			t.Fatal(err)
		}
		if code != say.StatusError || !strings.Contains(stderr, "too many open files") {
			t.Errorf("exit status %d, %q; want %d", code, stderr, say.StatusError)
		}
	})
	t.Run("start_retries", func(t *testing.T) {
		cmd := command(t, daemon, "-config", file)
		var log output
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(30 * time.Second); !strings.Contains(log.String(), "cannot start yet"); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the lack is not logged:\n%s", log.String())
			}
		}
		if !strings.Contains(log.String(), "too many open files") || !strings.Contains(log.String(), "LimitNOFILE=") {
			t.Errorf("the log does not name the lack and a remedy:\n%s", log.String())
		}
		// With descriptors it reads the file, and finds the mistake in it.
		if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}, nil); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != say.StatusUsage || !strings.Contains(log.String(), file+":2:") {
			t.Errorf("exit status %d, want %d:\n%s", code, say.StatusUsage, log.String())
		}
	})
}
