package shim

import (
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of this file do not block. They are made without telling
// Go's scheduler, which halves their cost: connect makes some fifty of them.

func rawGetsockopt(fd, level, opt int, p unsafe.Pointer, size uint32) (uint32, error) {
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt), uintptr(p), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return 0, e
	}
	return size, nil
}

func getInt(fd, level, opt int) (int, error) {
	var v int32
	_, err := rawGetsockopt(fd, level, opt, unsafe.Pointer(&v), 4)
	return int(v), err
}

func setInt(fd, level, opt, v int) error {
	w := int32(v)
	return setRaw(fd, level, opt, unsafe.Pointer(&w), 4)
}

func setRaw(fd, level, opt int, p unsafe.Pointer, size uintptr) error {
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt), uintptr(p), size, 0)
	if e != 0 {
		return e
	}
	return nil
}

// cookieOf returns SO_COOKIE.
func cookieOf(fd int) (uint64, error) {
	var v uint64
	_, err := rawGetsockopt(fd, unix.SOL_SOCKET, unix.SO_COOKIE, unsafe.Pointer(&v), 8)
	return v, err
}

// netnsCookie returns SO_NETNS_COOKIE.
func netnsCookie(fd int) (uint64, error) {
	var v uint64
	_, err := rawGetsockopt(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE, unsafe.Pointer(&v), 8)
	return v, err
}

// sendTimeout returns SO_SNDTIMEO.
func sendTimeout(fd int) (v unix.Timeval, err error) {
	_, err = rawGetsockopt(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, unsafe.Pointer(&v), uint32(unsafe.Sizeof(v)))
	return v, err
}

// receiveTimeout returns SO_RCVTIMEO.
func receiveTimeout(fd int) (v unix.Timeval, err error) {
	_, err = rawGetsockopt(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, unsafe.Pointer(&v), uint32(unsafe.Sizeof(v)))
	return v, err
}

// fileStatus returns the flags of F_GETFL.
func fileStatus(fd int) (int, error) {
	r, _, e := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETFL, 0)
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}

func setFileStatus(fd, flags int) {
	unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFL, uintptr(flags))
}

// localName returns the address that a socket is bound to.
func localName(fd int) (netip.AddrPort, error) {
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	_, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
	if e != 0 {
		return netip.AddrPort{}, e
	}
	return rawAddrPort(&sa), nil
}

// connectTo connects a socket that does not block.
func connectTo(fd int, to netip.AddrPort) error {
	var sa unix.RawSockaddrInet6
	size := rawName(&sa, to)
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(size))
	if e != 0 {
		return e
	}
	return nil
}

// closesOnExec reports whether descriptor fd of a thread has FD_CLOEXEC.
func closesOnExec(tid, fd int) bool {
	var path [64]byte
	p := append(path[:0], "/proc/"...)
	p = strconv.AppendInt(p, int64(tid), 10)
	p = append(p, "/fdinfo/"...)
	p = strconv.AppendInt(p, int64(fd), 10)
	p = append(p, 0)
	f, _, e := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(atCWD), uintptr(unsafe.Pointer(&p[0])), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if e != 0 {
		return false
	}
	var buf [256]byte
	n, _, e := unix.RawSyscall(unix.SYS_READ, f, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	unix.RawSyscall(unix.SYS_CLOSE, f, 0, 0)
	if e != 0 {
		return false
	}
	return readCloseOnExec(buf[:n])
}

var atCWD = unix.AT_FDCWD
