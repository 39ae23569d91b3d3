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
	Background float64 `json:"background"` // share of all CPUs that was busy before we began
}

// describe looks at the machine. It takes half a second, to see whether the
// machine is quiet.
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

	const moment = 500 * time.Millisecond
	before, err := read(0, nil)
	time.Sleep(moment)
	after, err2 := read(0, nil)
	if err == nil && err2 == nil {
		m.Background = after.busy(before).Seconds() / after.at.Sub(before.at).Seconds() / float64(after.cpus)
	}
	return m
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
