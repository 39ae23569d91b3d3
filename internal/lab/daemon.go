package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tnat64d/internal/control"
)

// Daemon is a tnat64d that runs on the laptop.
type Daemon struct {
	Socket string // its control socket

	laptop *Host
	cmd    *Cmd
	exited chan struct{}
	err    error // of Wait, when exited is closed
}

// DaemonOptions say how to start tnat64d.
type DaemonOptions struct {
	// Config is TOML without a [control] table; the lab adds one, so that
	// several labs can run at once. Control has lines for that table, besides
	// socket and metrics.
	Config, Control string

	// Env has more environment, as NAME=VALUE, for example
	// DBUS_SYSTEM_BUS_ADDRESS: by default the daemon finds no bus, above all
	// not that of the machine.
	Env []string

	// Limits are resource limits of the daemon as prlimit(1) has them without
	// the dashes: "nofile=40", "as=268435456".
	Limits []string

	// WithoutBPF leaves the daemon CAP_NET_ADMIN and CAP_NET_RAW only: the kernel
	// refuses it BPF.
	WithoutBPF bool

	// Manager starts the daemon; nil: one that keeps nothing.
	Manager *ServiceManager

	Log io.Writer // the daemon's; may be nil
}

// StartDaemon is StartDaemonWith config and log only.
func (l *Lab) StartDaemon(ctx context.Context, path, config string, log io.Writer) (*Daemon, error) {
	return l.StartDaemonWith(ctx, path, DaemonOptions{Config: config, Log: log})
}

// StartDaemonWith starts the tnat64d binary at path on the laptop and returns
// when it says that it is ready (sd_notify).
func (l *Lab) StartDaemonWith(ctx context.Context, path string, o DaemonOptions) (*Daemon, error) {
	d := &Daemon{Socket: filepath.Join(l.Dir, "tnat64d.sock"), laptop: l.Laptop, exited: make(chan struct{})}
	file := filepath.Join(l.Dir, "tnat64d.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%s\n[control]\nsocket = %q\nmetrics = %q\n%s\n", o.Config, d.Socket, metricsAddress, o.Control), 0o644); err != nil {
		return nil, fmt.Errorf("configuration of tnat64d: %w", err)
	}
	manager := o.Manager
	if manager == nil {
		var err error
		if manager, err = NewServiceManager(filepath.Join(l.Dir, "notify")); err != nil {
			return nil, fmt.Errorf("start tnat64d: %w", err)
		}
		defer manager.Close()
	}
	files, env := manager.Pass()
	ready := manager.ready
	// Not CommandContext's kill: the daemon outlives the ctx of its start.
	command := append(o.prefix(), path, "-config", file)
	d.cmd = l.Laptop.Command(context.WithoutCancel(ctx), command[0], command[1:]...)
	d.cmd.Env = append(os.Environ(),
		// As systemd would say it: nothing of it outside the lab.
		"RUNTIME_DIRECTORY="+l.Dir, "STATE_DIRECTORY="+l.Dir,
		"DBUS_SYSTEM_BUS_ADDRESS=unix:path="+filepath.Join(l.Dir, "no-bus"))
	d.cmd.Env = append(append(d.cmd.Env, env...), o.Env...)
	d.cmd.ExtraFiles = files
	d.cmd.Stdout, d.cmd.Stderr = o.Log, o.Log
	d.cmd.SysProcAttr.Setpgid = true // Ctrl-C in a shell beside it is not meant for it
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start tnat64d: %w", err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.exited)
	}()
	select {
	case <-ready:
		return d, nil
	case <-d.exited:
		return nil, fmt.Errorf("tnat64d ended at once: %w", d.exitError())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("tnat64d did not get ready: %w", context.Cause(ctx)), d.Stop())
	}
}

// prefix returns the command that runs another one, by the same process id,
// with the rights and limits of o.
func (o DaemonOptions) prefix() (command []string) {
	if o.WithoutBPF {
		command = append(command, "setpriv", "--bounding-set=-all,+net_admin,+net_raw")
	}
	if o.Manager != nil {
		command = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, command...)
	}
	if len(o.Limits) > 0 {
		command = append(command, "prlimit")
		for _, l := range o.Limits {
			command = append(command, "--"+l)
		}
		command = append(command, "--")
	}
	return command
}

// exitError is how the daemon ended; nil for status 0.
func (d *Daemon) exitError() error {
	if d.err == nil {
		return errors.New("exit status 0")
	}
	return d.err
}

// PID returns the daemon's process id.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Exited is closed when the daemon has ended.
func (d *Daemon) Exited() <-chan struct{} { return d.exited }

// Stop asks the daemon to stop (SIGTERM) and waits for it. The error is that
// of an exit status other than 0, or of a daemon that had to be killed. A
// daemon that has ended already stays as it is.
func (d *Daemon) Stop() error {
	d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
		return d.err
	case <-time.After(10 * time.Second):
		d.Kill()
		return errors.New("tnat64d did not stop within 10 seconds of SIGTERM")
	}
}

// Kill ends the daemon without giving it a chance to clean up (SIGKILL).
func (d *Daemon) Kill() {
	d.cmd.Process.Kill()
	<-d.exited
}

// metricsAddress is where the daemon serves its metrics, on the laptop.
const metricsAddress = "127.0.0.1:9646"

// Metrics returns the daemon's metrics, by name and labels as in
// `tnat64_packets_translated_total{direction="4to6",engine="user"}`.
func (d *Daemon) Metrics(ctx context.Context) (map[string]float64, error) {
	var dialer net.Dialer
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = d.laptop.Do(func() error {
				conn, err = dialer.DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metricsAddress+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("tnat64d's metrics: %w", err)
	}
	defer resp.Body.Close()
	metrics := make(map[string]float64)
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || name == "#" {
			continue
		}
		if metrics[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("tnat64d's metrics: %q: %w", lines.Text(), err)
		}
	}
	return metrics, lines.Err()
}

// PeakRSS returns the largest resident memory the daemon has had, in bytes.
func (d *Daemon) PeakRSS() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmHWM", d.PID())
}

// Status returns what the daemon says of itself on its control socket.
func (d *Daemon) Status(ctx context.Context) (control.Status, error) {
	return control.NewClient(d.Socket).Status(ctx)
}
