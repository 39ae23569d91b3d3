package shim

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// answerBind puts a socket of the host's back where a port or an address of this
// host is named: it is to be reached there.
func answerBind(t *trapped) reply {
	size := t.args[2] & 0xffffffff
	var b [8]byte // family, port, IPv4 address
	if size < 8 || size > 1<<16 || t.mem.read(t.args[1], b[:]) != nil {
		backToIPv4(t)
		return proceed
	}
	any := [6]byte(b[2:]) == [6]byte{}
	switch family := binary.NativeEndian.Uint16(b[:]); {
	case family == unix.AF_INET6:
		return bindIPv6(t, b[2] != 0 || b[3] != 0)
	case family == unix.AF_INET && !any:
		backToHost(t)
	default:
		backToIPv4(t)
	}
	return proceed
}

// bindIPv6 answers bind with an IPv6 name, which a socket that the program takes
// for AF_INET refuses. It notes which AF_INET6 sockets are to be reached at a port.
func bindIPv6(t *trapped, port bool) reply {
	fd, p, err := t.own()
	if err != nil {
		return proceed
	}
	defer unix.Close(fd)
	cookie, err := cookieOf(fd)
	if err != nil {
		return proceed
	}
	r, is := t.sockets.get(cookie)
	switch {
	case is && r.early:
		if toIPv4(t, p, fd, cookie) != nil {
			return fail(unix.EAFNOSUPPORT)
		}
	case is && !r.mapped:
		return fail(unix.EAFNOSUPPORT)
	case port:
		t.served.add(cookie)
	}
	return proceed
}
