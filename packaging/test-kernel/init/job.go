package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/packaging/test-kernel/guest"
)

// drain is how long output is waited for after a job ended, in case a process
// that it left behind holds the pipe.
const drain = 2 * time.Second

// runJob runs one test binary and sends its output and its end.
func runJob(j guest.Job, env []string, events *events) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("./test", j.Args...)
	cmd.Dir = filepath.Join(guest.Sources, j.Dir)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, w, w
	start := time.Now()
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewReader(r); ; {
			line, err := lines.ReadString('\n')
			if line != "" {
				events.send(guest.Event{Output: strings.TrimSuffix(line, "\n")})
			}
			if err != nil {
				return
			}
		}
	}()
	cmd.Wait() // its status says it all
	exit := guest.Exit{Status: cmd.ProcessState.ExitCode(), Seconds: time.Since(start).Seconds()}
	exit.Left = killOthers()
	select {
	case <-read:
	case <-time.After(drain):
		r.Close()
		<-read
	}
	events.send(guest.Event{Exit: &exit})
	return nil
}

// killOthers kills every process of user space but init's two, and says which
// they were. Ones that are about to end by themselves get a moment.
func killOthers() (left []string) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if left = others(false); left == nil {
			return nil
		}
	}
	return others(true)
}

func others(kill bool) (names []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		// Kernel threads and zombies have no command line.
		args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(args) == 0 {
			continue
		}
		names = append(names, fmt.Sprintf("%d: %s", pid, bytes.ReplaceAll(bytes.TrimRight(args, "\x00"), []byte{0}, []byte(" "))))
		if kill {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	return names
}
