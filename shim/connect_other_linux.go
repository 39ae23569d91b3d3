package shim

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// connectOther answers connect(2) with a name that is not an IPv4 address. A socket
// that the program takes for AF_INET may be AF_INET6, and refuses IPv6 names all
// the same: the program may have given up the right to use IPv6. The kernel would
// read the name once more, so that it must not execute the call.
func connectOther(t *trapped) reply {
	fd, ok := takenForIPv4(t)
	if !ok {
		return proceed
	}
	defer unix.Close(fd)
	size := t.args[2] & 0xffffffff
	if size < 2 || size > unix.SizeofSockaddrAny {
		return fail(unix.EINVAL)
	}
	var family [2]byte
	if t.mem.read(t.args[1], family[:]) != nil {
		return fail(unix.EFAULT)
	}
	switch binary.NativeEndian.Uint16(family[:]) {
	case unix.AF_UNSPEC: // disconnect
		var sa unix.RawSockaddr
		if _, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa)); e != 0 {
			return fail(e)
		}
		return reply{}
	case unix.AF_INET: // too short
		return fail(unix.EINVAL)
	}
	return fail(unix.EAFNOSUPPORT)
}

// sendOther answers a call that names a destination which is not an IPv4 address:
// see connectOther. A socket that the program takes for AF_INET gets EAFNOSUPPORT.
func sendOther(t *trapped) reply {
	fd, ok := takenForIPv4(t)
	if !ok {
		return proceed
	}
	unix.Close(fd)
	return fail(unix.EAFNOSUPPORT)
}

// takenForIPv4 returns the socket in argument 0 if it is an AF_INET6 one that the
// program takes for AF_INET. The caller closes it.
func takenForIPv4(t *trapped) (fd int, ok bool) {
	fd, _, ok = replacedSocket(t, func(r replaced) bool { return !r.mapped })
	return fd, ok
}
