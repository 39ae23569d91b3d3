package shim

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// answerBind puts a socket of the host's back where a port or an address of this
// host is named: it is to be reached there.
func answerBind(t *trapped) reply {
	size := t.args[2] & 0xffffffff
	if size < 8 || size > 1<<16 {
		return proceed
	}
	var b [8]byte // family, port, IPv4 address
	if t.mem.read(t.args[1], b[:]) != nil {
		return proceed
	}
	any := [6]byte(b[2:]) == [6]byte{}
	switch family := binary.NativeEndian.Uint16(b[:]); {
	case family == unix.AF_INET6 && (b[2] != 0 || b[3] != 0):
		if fd, _, err := t.own(); err == nil {
			if cookie, err := cookieOf(fd); err == nil {
				t.served.add(cookie)
			}
			unix.Close(fd)
		}
	case family == unix.AF_INET && !any:
		backToHost(t)
	case family == unix.AF_INET || family == unix.AF_UNSPEC:
		backToIPv4(t)
	}
	return proceed
}
