package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// page is the memory that a load program shares with the harness. The layout is
// that of struct page in programs/load.c.
type page struct {
	state    atomic.Uint64
	openedNS atomic.Uint64
	_        [6]uint64
	lanes    [8]struct {
		units, bytes, sent, refused atomic.Uint64
		_                           [4]uint64
	}
	latency [buckets]atomic.Uint64
}

const buckets = 2048

// What page.state says.
const (
	starting = iota
	listening
	running
)

// newPage makes the memory, and the file that a program maps. The caller closes
// the file when the program has it, and gives the page back with freePage.
func newPage() (*page, *os.File, error) {
	fd, err := unix.MemfdCreate("load", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("shared memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), "load")
	const size = int(unsafe.Sizeof(page{}))
	if err := file.Truncate(int64(size)); err != nil {
		file.Close()
		return nil, nil, fmt.Errorf("shared memory: %w", err)
	}
	mem, err := unix.MmapPtr(fd, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		file.Close()
		return nil, nil, fmt.Errorf("shared memory: %w", err)
	}
	return (*page)(mem), file, nil
}

func freePage(p *page) {
	unix.MunmapPtr(unsafe.Pointer(p), unsafe.Sizeof(page{}))
}

// counts is what a page says at one moment.
type counts struct {
	units, bytes, sent, refused uint64
	latency                     [buckets]uint64
}

func (p *page) counts() *counts {
	c := new(counts)
	for i := range p.lanes {
		l := &p.lanes[i]
		c.units += l.units.Load()
		c.bytes += l.bytes.Load()
		c.sent += l.sent.Load()
		c.refused += l.refused.Load()
	}
	for i := range p.latency {
		c.latency[i] = p.latency[i].Load()
	}
	return c
}

// quantile returns the duration in nanoseconds that the share q of what was
// observed between two moments did not exceed; 0 if nothing was.
func quantile(before, after *counts, q float64) float64 {
	var total uint64
	for i := range after.latency {
		total += after.latency[i] - before.latency[i]
	}
	if total == 0 {
		return 0
	}
	rank := q * float64(total)
	var below float64
	for i := range after.latency {
		n := float64(after.latency[i] - before.latency[i])
		if below+n >= rank && n > 0 {
			low, width := bucket(i)
			return low + width*(rank-below)/n
		}
		below += n
	}
	low, width := bucket(buckets - 1)
	return low + width
}

// bucket returns where bucket i of the histogram begins and how wide it is, in
// nanoseconds: 32 buckets for each power of two.
func bucket(i int) (low, width float64) {
	if i < 32 {
		return float64(i), 1
	}
	width = float64(uint64(1) << (i/32 - 1))
	return float64(32+i%32) * width, width
}
