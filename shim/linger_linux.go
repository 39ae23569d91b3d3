package shim

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// getLinger reads SO_LINGER, which x/sys can only set.
func getLinger(fd int) (*unix.Linger, error) {
	var l unix.Linger
	n := uint32(unsafe.Sizeof(l))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&l)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return nil, e
	}
	return &l, nil
}
