package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// reading is what all clocks and counters of the machine say at one moment.
type reading struct {
	at           time.Time
	busy, steal  time.Duration // of all CPUs; steal is what the hypervisor gave to others
	translator   time.Duration // CPU time of the translator's process
	instructions uint64        // of all CPUs, kernel and programs; 0 without a PMU
}

// userHZ is the unit of /proc/stat and /proc/PID/stat on every architecture
// that Linux has today (man 5 proc).
const userHZ = 100

// readCPU reads /proc/stat: time of all CPUs since boot that was not idle.
func readCPU() (busy, steal time.Duration, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	f := strings.Fields(string(line)) // cpu user nice system idle iowait irq softirq steal ...
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for i, field := range f[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		d := time.Duration(n) * time.Second / userHZ
		switch i + 1 {
		case 4, 5: // idle, waiting for a disk
		case 8:
			steal = d
		default:
			busy += d
		}
	}
	return busy, steal, nil
}

// readProcess returns the CPU time of a process and its threads, in
// nanoseconds where the kernel keeps them (schedstat), else in ticks. It
// contains what interrupts did meanwhile.
func readProcess(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has just ended
		}
		running, _, _ := strings.Cut(string(data), " ")
		ns, err := strconv.ParseInt(running, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		total += time.Duration(ns)
	}
	if len(files) > 0 {
		return total, nil
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// After the name in parentheses, which may contain anything, field 3 comes first.
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	for _, field := range f[11:13] { // utime, stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n) * time.Second / userHZ
	}
	return total, nil
}

// readMemory returns a process's resident memory in bytes, now and at its peak.
func readMemory(pid int) (now, peak int64, err error) {
	if pid == 0 {
		return 0, 0, nil
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(line, ":")
		if name != "VmRSS" && name != "VmHWM" {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/%d/status: %w", pid, err)
		}
		if name == "VmRSS" {
			now = kb << 10
		} else {
			peak = kb << 10
		}
	}
	return now, peak, nil
}

// read reads all clocks; pid is the translator's process, or 0.
func read(pid int, pmu *pmu) (r reading, err error) {
	r.at = time.Now()
	if r.busy, r.steal, err = readCPU(); err != nil {
		return r, err
	}
	if r.translator, err = readProcess(pid); err != nil {
		return r, err
	}
	r.instructions, err = pmu.read()
	return r, err
}
