package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"tnat64d/internal/lab"
)

// daemon is tnat64d with one of its engines.
type daemon struct {
	engine string // user or kernel
	shared bool   // it shares the host's IPv6 address
	path   string // of the program; set before anything is started
	before bool   // another version, of -before
}

// earlier returns the daemons of -before, which take their turns beside those of
// today.
func earlier(path string) []contestant {
	return []contestant{&daemon{engine: "user", path: path, before: true}, &daemon{engine: "kernel", path: path, before: true}}
}

func (d *daemon) id() string {
	if d.before {
		return "before-" + d.engine
	}
	return d.engine + d.suffix("-shared")
}

func (d *daemon) title() string {
	if d.before {
		return "before " + d.engine
	}
	return "tnat64d " + d.engine + d.suffix(", shared address")
}

func (d *daemon) packages() []string { return nil }
func (d *daemon) cannot(load) string { return "" }

// suffix returns text if the address is shared.
func (d *daemon) suffix(text string) string {
	if d.shared {
		return text
	}
	return ""
}

func (d *daemon) about() string {
	if d.shared {
		return "tnat64d, " + d.engine + " engine, sharing the host's IPv6 address: BPF programs remember whose each flow is"
	}
	if d.engine == "kernel" {
		return "tnat64d, kernel engine: simple packets are translated by BPF programs, the rest in user space. " +
			"BPF runs in whoever sends or receives, so there is no translator's CPU time to read, only the machine's"
	}
	return "tnat64d, user engine: every packet is translated in user space, super-packets whole; BPF only steers"
}

func (d *daemon) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, d.path, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s -version: %w: %s", d.path, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func (d *daemon) start(ctx context.Context, l *lab.Lab, s setup) (*service, error) {
	config := fmt.Sprintf("[clat]\nengine = %q\n", d.engine)
	if d.shared {
		config += "ipv6 = \"shared\"\n"
	}
	if s.Queues > 0 {
		config += fmt.Sprintf("queues = %d\n", s.Queues)
	}
	config += eamTable(s.EAM)
	output := new(tail)
	process, err := l.StartDaemon(ctx, d.path, config, output)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, output)
	}
	stop := process.Stop
	if _, err := l.WaitCLAT(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, output), stop())
	}
	if d.engine == "kernel" {
		stop = func() error { return errors.Join(d.check(process), process.Stop()) }
	}
	return &service{target: lab.ServerIPv4, pid: process.PID(), exited: process.Exited(), output: output, stop: stop}, nil
}

// check makes sure that the kernel engine was what it says.
func (d *daemon) check(process *lab.Daemon) error {
	select {
	case <-process.Exited():
		return nil // it has been reported
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	metrics, err := process.Metrics(ctx)
	if err != nil {
		return err
	}
	for name, n := range metrics {
		if n > 0 && strings.HasPrefix(name, "tnat64_packets_translated_total{") && strings.Contains(name, `engine="kernel"`) {
			return nil
		}
	}
	return errors.New("the kernel engine has not translated a packet: what was measured is the user engine")
}

// eamTable returns n entries that no packet of a load matches: every packet is
// looked up in vain, and then translated as it would be without them.
func eamTable(n int) string {
	var b strings.Builder
	v4, v6 := netip.MustParseAddr("198.18.0.0"), netip.MustParseAddr("2001:db8:ea::")
	for range n {
		fmt.Fprintf(&b, "[[translation.eam]]\nipv4 = \"%s\"\nipv6 = \"%s\"\n", v4, v6)
		v4, v6 = v4.Next(), v6.Next()
	}
	return b.String()
}
