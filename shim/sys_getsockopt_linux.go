package shim

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// answerGetsockopt answers SO_DOMAIN for sockets that were replaced.
func answerGetsockopt(t *trapped) reply {
	if t.number(1) != unix.SOL_SOCKET || t.number(2) != unix.SO_DOMAIN {
		return proceed
	}
	fd, ok := takenForIPv4(t)
	if !ok {
		return proceed
	}
	unix.Close(fd)
	var l [4]byte
	if t.mem.read(t.args[4], l[:]) != nil {
		return fail(unix.EFAULT)
	}
	room := int32(binary.NativeEndian.Uint32(l[:]))
	if room < 0 {
		return fail(unix.EINVAL)
	}
	room = min(room, 4)
	var v [4]byte
	binary.NativeEndian.PutUint32(v[:], unix.AF_INET)
	binary.NativeEndian.PutUint32(l[:], uint32(room))
	if t.mem.write(t.args[3], v[:room]) != nil || t.mem.write(t.args[4], l[:]) != nil {
		return fail(unix.EFAULT)
	}
	return reply{}
}
