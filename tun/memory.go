package tun

import "golang.org/x/sys/unix"

// Memory is memory for packets outside the heap: pages that nothing has touched
// take none, and megabytes of it do not let the garbage collector wait for as
// many more. The owner calls Free when nothing refers to it any more.
type Memory struct {
	Bytes  []byte
	mapped bool
}

// NewMemory returns n zero bytes, from the heap if the kernel gives none.
func NewMemory(n int) Memory {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return Memory{Bytes: make([]byte, n)}
	}
	return Memory{b, true}
}

// Free gives it back. To free it again is no error.
func (m *Memory) Free() {
	if m.mapped {
		unix.Munmap(m.Bytes)
	}
	*m = Memory{}
}
