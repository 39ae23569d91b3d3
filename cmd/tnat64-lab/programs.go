package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"tnat64d/internal/lab"
)

// program is something the demo runs on the laptop: a program of the system,
// unmodified, or where it is not installed a small stand-in that is built in
// and just as ignorant of IPv6 (see client.go).
type program struct {
	shown string   // what a person would type
	run   []string // what is run: options added that keep it quiet and quick
}

// find chooses the system's program if it is installed, and otherwise the
// built-in one. shown begins with the name of the system's.
func (inv invocation) find(shown string, system []string, builtIn ...string) (program, error) {
	if !inv.builtIn && usable(system[0]) {
		return program{shown, system}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return program{}, err
	}
	_, target, _ := strings.Cut(shown, " ")
	return program{builtIn[0] + " " + target, append([]string{self, builtInCommand}, builtIn...)}, nil
}

// usable reports whether the program is installed and understands the options
// that the demo gives it. Of traceroute there are several kinds.
func usable(name string) bool {
	path, err := exec.LookPath(name)
	if err != nil {
		return false
	}
	if name == "traceroute" {
		out, _ := exec.Command(path, "--version").CombinedOutput()
		return strings.Contains(string(out), "Modern traceroute")
	}
	return true
}

// on runs the program on the host and returns all that it printed.
func (p program) on(ctx context.Context, h *lab.Host) (string, error) {
	cmd := h.Command(ctx, p.run[0], p.run[1:]...)
	cmd.Env = lab.WithoutProxies(os.Environ())
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w", p.shown, err)
	}
	return string(out), err
}

// firstLine returns the first line that contains part, without the marks that
// programs put before a line.
func firstLine(output, part string) (string, bool) {
	for line := range strings.Lines(output) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(strings.TrimLeft(line, "* ")), true
		}
	}
	return "", false
}
