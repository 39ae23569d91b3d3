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
	idle, steal  time.Duration // of all CPUs; steal is what the hypervisor gave to others
	cpus         int
	translator   time.Duration // CPU time of the translator's process
	instructions uint64        // of all CPUs, kernel and programs; 0 without a PMU
}

// userHZ is the unit of /proc/stat and /proc/PID/stat on every architecture
// that Linux has today (man 5 proc).
const userHZ = 100

// readCPU reads /proc/stat into r. What is not idle is busy: the kernel measures
// idle time, while user and system time are what a timer happened to see.
func (r *reading) readCPU() error {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return err
	}
	lines := strings.Split(string(data), "\n")
	f := strings.Fields(lines[0]) // cpu user nice system idle iowait irq softirq steal ...
	if len(f) < 9 || f[0] != "cpu" {
		return fmt.Errorf("/proc/stat begins with %q", lines[0])
	}
	for _, line := range lines[1:] { // cpu0 ...
		if strings.HasPrefix(line, "cpu") {
			r.cpus++
		}
	}
	for i, d := range map[int]*time.Duration{4: &r.idle, 5: &r.idle, 8: &r.steal} {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return fmt.Errorf("/proc/stat: %w", err)
		}
		*d += time.Duration(n) * time.Second / userHZ
	}
	return nil
}

// busy returns the time since an earlier reading that all CPUs together were
// not idle, nor taken away by the hypervisor.
func (r reading) busy(since reading) time.Duration {
	all := r.at.Sub(since.at) * time.Duration(r.cpus)
	return max(0, all-(r.idle-since.idle)-(r.steal-since.steal))
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
	if err := r.readCPU(); err != nil {
		return r, err
	}
	if r.translator, err = readProcess(pid); err != nil {
		return r, err
	}
	r.instructions, err = pmu.read()
	return r, err
}
