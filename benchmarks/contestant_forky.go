package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tnat64d/internal/lab"
)

// forkyRoots match the root file systems of `make test-others`, in which newer CLATs
// run than this machine's Debian has.
const forkyRoots = "/var/cache/tnat64-test-others/forky-*"

// forkyRoot returns the newest root file system.
func forkyRoot() (string, error) {
	roots, err := filepath.Glob(forkyRoots)
	if err != nil || len(roots) == 0 {
		return "", fmt.Errorf("there is no %s: `go run ./packaging/test-others` makes it, in about 5 minutes", forkyRoots)
	}
	age := func(root string) time.Time {
		info, err := os.Stat(root)
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	return slices.MaxFunc(roots, func(a, b string) int { return age(a).Compare(age(b)) }), nil
}

// forkyVersion returns the versions of packages in the root file system.
func forkyVersion(ctx context.Context, names ...string) (string, error) {
	root, err := forkyRoot()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "dpkg-query", append([]string{"--admindir=" + filepath.Join(root, "var/lib/dpkg"),
		"-W", "-f", "${Package} ${Version}, "}, names...)...).Output()
	if err != nil {
		return "", fmt.Errorf("%s in %s: %w", strings.Join(names, ", "), root, err)
	}
	return strings.TrimSuffix(string(out), ", "), nil
}

// startForky boots a machine with the root file system, and waits until up reports
// nil.
func startForky(ctx context.Context, l *lab.Lab, o lab.MachineOptions, up func(context.Context, *lab.Machine) error) (*service, error) {
	output := new(tail)
	root, err := forkyRoot()
	if err != nil {
		return nil, err
	}
	o.Root, o.Log = root, output
	m, err := l.StartMachine(o)
	if err != nil {
		return nil, err
	}
	stop := func() error {
		m.Stop()
		return nil
	}
	for {
		err := up(ctx, m)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			stop()
			return nil, fmt.Errorf("%w\n%s", err, output)
		case <-m.Exited:
			stop()
			return nil, fmt.Errorf("it ended\n%s", output)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return &service{target: lab.ServerIPv4, exited: m.Exited, output: output, stop: stop}, nil
}

// networkManager is the CLAT of NetworkManager: a BPF program on the uplink.
type networkManager struct{}

func (networkManager) id() string         { return "nm" }
func (networkManager) title() string      { return "NetworkManager" }
func (networkManager) packages() []string { return nil }
func (networkManager) about() string {
	return "NetworkManager's CLAT of Debian forky: a BPF program on the uplink. It drops fragments"
}

func (networkManager) cannot(l load) string {
	if strings.HasPrefix(l.ID, "fragments/") {
		return "drops them"
	}
	return unlessShort(l)
}

func (networkManager) version(ctx context.Context) (string, error) {
	return forkyVersion(ctx, "network-manager")
}

func (networkManager) start(ctx context.Context, l *lab.Lab, _ setup) (*service, error) {
	activated := false
	return startForky(ctx, l, lab.NetworkManager("WARN", nil), func(ctx context.Context, m *lab.Machine) error {
		if !activated {
			// The kernel has configured the uplink already.
			if _, err := m.Try(ctx, "nmcli", "connection", "up", lab.NetworkManagerProfile); err != nil {
				return err
			}
			activated = true
		}
		addrs, err := l.Laptop.Addresses(lab.Uplink)
		for _, a := range addrs {
			if a.Addr().Is4() {
				return nil
			}
		}
		return errors.Join(errors.New("NetworkManager has set up no CLAT"), err)
	})
}

// clatd is clatd with tayga.
type clatd struct{}

func (clatd) id() string         { return "clatd" }
func (clatd) title() string      { return "clatd + tayga" }
func (clatd) packages() []string { return nil }
func (clatd) about() string {
	return "clatd with tayga, both of Debian forky: a process that translates in user space, with as many threads as there are CPUs"
}

func (clatd) cannot(l load) string {
	return unlessShort(l)
}

// unlessShort leaves out loads that are not in the short table, so that a run is
// short too.
func unlessShort(l load) string {
	for _, row := range shortRows {
		if slices.Contains(row.loads, l.ID) {
			return ""
		}
	}
	return "not measured"
}

func (clatd) version(ctx context.Context) (string, error) {
	return forkyVersion(ctx, "clatd", "tayga")
}

func (clatd) start(ctx context.Context, l *lab.Lab, _ setup) (*service, error) {
	var pid int
	s, err := startForky(ctx, l, lab.MachineOptions{
		Files: map[string]string{
			"/etc/clatd.conf":  fmt.Sprintf("v4-conncheck-enable=no\nclat-dev=clat\nplat-prefix=%s\n", l.PREF64()),
			"/etc/resolv.conf": "nameserver " + l.IPv6.String() + "\n",
		},
		Start: "clatd -c /etc/clatd.conf &",
	}, func(_ context.Context, m *lab.Machine) error {
		pids, err := m.Processes("tayga")
		if err != nil || len(pids) == 0 {
			return errors.Join(errors.New("clatd has not started tayga"), err)
		}
		pid = pids[0]
		route, err := l.Laptop.Command(ctx, "ip", "-4", "route", "show", "default").Output()
		if err != nil || len(route) == 0 {
			return errors.Join(errors.New("clatd has set no default route"), err)
		}
		return nil
	})
	if err == nil {
		s.pid = pid
	}
	return s, err
}
