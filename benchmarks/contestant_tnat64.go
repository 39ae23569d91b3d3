package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"tnat64d/internal/lab"
)

// command is this repository's `tnat64 COMMAND`: a supervisor answers the
// system calls that name addresses.
type command struct {
	path string // of the program; set before anything is started
}

func (c *command) id() string         { return "tnat64" }
func (c *command) title() string      { return "tnat64" }
func (c *command) packages() []string { return nil }
func (c *command) cannot(load) string { return "" }
func (c *command) about() string {
	return "`tnat64 COMMAND` of this repository: TCP sockets are replaced once, datagrams pass a relay; the laptop has no IPv4. " +
		"CPU time and memory of its supervisor and relay are part of the machine's only"
}

func (c *command) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, c.path, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s -version: %w: %s", c.path, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func (c *command) start(_ context.Context, l *lab.Lab, _ setup) (*service, error) {
	// As distributions have it: ping sockets are for everybody.
	if err := l.Laptop.Sysctl("net.ipv4.ping_group_range", "0 2147483647"); err != nil {
		return nil, err
	}
	return &service{
		target:  lab.ServerIPv4,
		wrapper: []string{c.path, "-pref64", l.PREF64().String()},
		stop:    func() error { return nil },
	}, nil
}
