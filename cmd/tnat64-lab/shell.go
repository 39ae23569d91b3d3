package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"tnat64d/internal/lab"
)

// shellStatus is the exit status of the user's shell.
type shellStatus int

func (s shellStatus) Error() string { return "the shell's exit status was " + strconv.Itoa(int(s)) }

// shell opens $SHELL on the laptop with tnat64d running.
func shell(ctx context.Context, inv invocation, out io.Writer) (err error) {
	l, err := newLab(ctx, inv.options)
	if err != nil {
		return err
	}
	var daemon *lab.Daemon
	defer func() { takeDown(l, daemon, &err) }()
	logPath := filepath.Join(l.Dir, "tnat64d.log")
	log, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	if daemon, err = startForShell(ctx, l, inv, log); err != nil {
		if words, readErr := os.ReadFile(logPath); readErr == nil && len(words) > 0 {
			err = fmt.Errorf("%w\ntnat64d's log:\n%s", err, words)
		}
		return err
	}
	fmt.Fprintf(out, "This shell is on the laptop. The IPv4-only server is %s; try\n"+
		"  curl http://%[1]s/   ping %[1]s   traceroute -n %[1]s   dig @%[1]s %[2]s\n"+
		"  curl -o /dev/null http://%[1]s/bytes/1000000000\n"+
		"tnat64d's log: %[3]s; from another terminal: ip netns exec %[4]s bash\n"+
		"`exit` takes everything away.\n", lab.ServerIPv4, lab.NameServer, logPath, l.Laptop.Namespace)
	cmd, err := shellCommand(ctx, l)
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return shellStatus(exit.ExitCode())
	}
	return err
}

// startForShell starts tnat64d and waits for its CLAT, unless it has a reason
// to stand aside.
func startForShell(ctx context.Context, l *lab.Lab, inv invocation, log io.Writer) (*lab.Daemon, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	daemon, err := l.StartDaemon(ctx, inv.tnat64d, "", log)
	if err != nil || inv.options.NativeIPv4 {
		return daemon, err
	}
	_, err = l.WaitCLAT(ctx)
	return daemon, err
}

// shellCommand is $SHELL with a prompt that says where one is.
func shellCommand(ctx context.Context, l *lab.Lab) (*lab.Cmd, error) {
	path := os.Getenv("SHELL")
	if path == "" {
		path = "/bin/sh"
	}
	var args []string
	if filepath.Base(path) == "bash" {
		// bash sets the prompt itself, in the user's own file.
		rc := filepath.Join(l.Dir, "bashrc")
		content := "[ -f ~/.bashrc ] && . ~/.bashrc\nPS1=\"(tnat64 laptop) $PS1\"\n"
		if err := os.WriteFile(rc, []byte(content), 0o644); err != nil {
			return nil, err
		}
		args = []string{"--rcfile", rc}
	}
	cmd := l.Laptop.Command(ctx, path, args...)
	cmd.Env = append(lab.WithoutProxies(os.Environ()), "PS1=(tnat64 laptop) # ", "TNAT64_LAB="+l.ID)
	return cmd, nil
}
