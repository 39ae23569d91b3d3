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
	"strings"

	"tnat64d/internal/lab"
)

// shellStatus is the exit status of the user's shell.
type shellStatus int

func (s shellStatus) Error() string { return "the shell's exit status was " + strconv.Itoa(int(s)) }

// shell opens $SHELL on the laptop with tnat64d running.
func shell(ctx context.Context, inv invocation, out io.Writer) (err error) {
	inv.options.DNS = &lab.DNS{}
	l, err := newLab(ctx, inv.options)
	if err != nil {
		return err
	}
	var daemon *lab.Daemon
	defer func() { takeDown(l, daemon, &err) }()
	if err := l.SetResolvConf(l.Laptop, "nameserver "+lab.RouterIPv6.String()+"\n"); err != nil {
		return err
	}
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
	env, err := newEnvironment(l, inv, daemon.Socket, logPath)
	if err != nil {
		return err
	}
	join, err := env.writeJoin(l)
	if err != nil {
		return err
	}
	name := strings.TrimSuffix(lab.NameServer, ".")
	fmt.Fprintf(out, "This shell is on the laptop. The IPv4-only server is %s (%s); try\n"+
		"  tnat64ctl status   tnat64ctl doctor   tnat64ctl trace   tnat64ctl report\n"+
		"  curl http://%[1]s/   ping %[1]s   traceroute -n %[1]s   dig %[2]s\n"+
		"  curl -o /dev/null http://%[1]s/bytes/1000000000\n"+
		"tnat64d's log: %[3]s\n"+
		"Another terminal joins with: sudo %[4]s\n"+
		"`exit` takes everything away.\n", lab.ServerIPv4, name, logPath, join)
	cmd := l.Laptop.Command(ctx, env.shell[0], env.shell[1:]...)
	cmd.Env = env.variables
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
	daemon, err := l.StartDaemon(ctx, inv.tnat64d, "[clat]\n"+inv.options.Kind.Config(), log)
	if err != nil || inv.options.NativeIPv4 {
		return daemon, err
	}
	_, err = l.WaitCLAT(ctx)
	return daemon, err
}
