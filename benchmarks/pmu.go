package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// pmu counts the instructions that all CPUs execute, in the kernel and in
// programs (perf_event_open). Many virtual machines have no such counters. The
// zero value and nil count nothing.
type pmu struct {
	fds []int
}

var errNoPMU = errors.New("this machine has no hardware counters (PMU), or does not let us read them")

// openPMU opens a counter on every CPU.
func openPMU() (*pmu, error) {
	return openCounters(unix.PERF_TYPE_HARDWARE, unix.PERF_COUNT_HW_INSTRUCTIONS)
}

func openCounters(kind uint32, config uint64) (*pmu, error) {
	p := new(pmu)
	attr := unix.PerfEventAttr{Type: kind, Config: config, Size: unix.PERF_ATTR_SIZE_VER0}
	for cpu := range runtime.NumCPU() {
		fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			p.close()
			return nil, fmt.Errorf("%w: perf_event_open: %w", errNoPMU, err)
		}
		p.fds = append(p.fds, fd)
	}
	return p, nil
}

func (p *pmu) read() (total uint64, err error) {
	if p == nil {
		return 0, nil
	}
	var b [8]byte
	for _, fd := range p.fds {
		if _, err := unix.Read(fd, b[:]); err != nil {
			return 0, fmt.Errorf("hardware counter: %w", err)
		}
		total += binary.NativeEndian.Uint64(b[:])
	}
	return total, nil
}

func (p *pmu) close() {
	if p == nil {
		return
	}
	for _, fd := range p.fds {
		unix.Close(fd)
	}
}
