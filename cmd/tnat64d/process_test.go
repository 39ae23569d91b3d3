package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// process is a daemon that a test has started.
type process struct {
	cmd  *exec.Cmd
	file string // its configuration
	log  output
	done chan struct{}
	err  error
}

// startDaemon starts a daemon in the network namespace of the calling thread.
func startDaemon(t *testing.T, path, config string, env ...string) *process {
	t.Helper()
	p := &process{file: writeConfig(t, config), done: make(chan struct{})}
	p.cmd = exec.Command(path, "-config", p.file, "-log-level", "debug")
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("log of the daemon:\n%s", p.log.String())
		}
	})
	return p
}

// waitLog waits until the daemon has said something.
func (p *process) waitLog(t *testing.T, text string) {
	t.Helper()
	p.waitLogs(t, text, 1)
}

// waitLogs waits until it has said it n times.
func (p *process) waitLogs(t *testing.T, text string, n int) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); strings.Count(p.log.String(), text) < n; time.Sleep(10 * time.Millisecond) {
		select {
		case <-p.done:
			t.Fatalf("it ended (%v) without saying %q:\n%s", p.err, text, p.log.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("it has not said %q %d times:\n%s", text, n, p.log.String())
		}
	}
}

// stop ends the daemon by SIGTERM, which must be clean.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		t.Fatal("it does not stop")
	}
	if p.err != nil {
		t.Errorf("it stopped with %v", p.err)
	}
	if log := p.log.String(); !strings.Contains(log, "msg=stopped packets_4to6=") {
		t.Errorf("no summary at the end:\n%s", log)
	}
}
