package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is where it was measured.
type machine struct {
	CPU        string  `json:"cpu"`
	CPUs       int     `json:"cpus"`
	MemoryGB   float64 `json:"memory_gb"`
	Virtual    string  `json:"virtual,omitempty"` // what kind of virtual machine it is
	Kernel     string  `json:"kernel"`
	System     string  `json:"system"`
	Go         string  `json:"go"`
	GCC        string  `json:"gcc"`
	Commit     string  `json:"commit"`
	PMU        string  `json:"pmu"`        // "available", or why not
	Background float64 `json:"background"` // the most that was busy, as a share of all CPUs, when we did nothing
	Stolen     float64 `json:"stolen"`     // share of all CPUs that the hypervisor gave to others while we measured
}

// describe looks at the machine.
func describe(ctx context.Context) machine {
	m := machine{CPU: "unknown", CPUs: runtime.NumCPU(), Go: runtime.Version()}
	info := fields("/proc/cpuinfo", ":")
	if model := info["model name"]; model != "" {
		m.CPU = model
	}
	if strings.Contains(info["flags"], " hypervisor") {
		m.Virtual = strings.TrimSpace(line("/sys/class/dmi/id/sys_vendor") + " " + line("/sys/class/dmi/id/product_name"))
		if m.Virtual == "" {
			m.Virtual = "hypervisor not named"
		}
	}
	kb, _, _ := strings.Cut(fields("/proc/meminfo", ":")["MemTotal"], " ")
	if n, err := strconv.ParseFloat(kb, 64); err == nil {
		m.MemoryGB = n * 1024 / 1e9
	}
	m.System = strings.Trim(fields("/etc/os-release", "=")["PRETTY_NAME"], `"`)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	}
	m.GCC = firstLine(output(ctx, "gcc", "--version"))
	m.Commit = firstLine(output(ctx, "git", "-c", "safe.directory=*", "describe", "--always", "--dirty", "--tags"))
	return m
}

// noise returns which share of all CPUs is busy while we do nothing for a
// moment.
func noise(ctx context.Context) float64 {
	before, err := read(0, nil)
	if err != nil {
		return 0
	}
	select {
	case <-ctx.Done():
	case <-time.After(300 * time.Millisecond):
	}
	after, err := read(0, nil)
	if err != nil {
		return 0
	}
	return after.busy(before).Seconds() / after.at.Sub(before.at).Seconds() / float64(after.cpus)
}

// fields reads a file of lines "name : value"; of several the first counts.
func fields(path, separator string) map[string]string {
	data, _ := os.ReadFile(path)
	m := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, separator)
		if name = strings.TrimSpace(name); m[name] == "" {
			m[name] = strings.TrimSpace(value)
		}
	}
	return m
}

func line(path string) string {
	data, _ := os.ReadFile(path)
	return strings.TrimSpace(string(data))
}

func output(ctx context.Context, name string, args ...string) string {
	out, _ := exec.CommandContext(ctx, name, args...).Output()
	return string(out)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.TrimSpace(s)
}
