package shim

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// getsockopt answers SO_DOMAIN for sockets that were replaced.
func (t *trapped) getsockopt() reply {
	if t.number(1) != unix.SOL_SOCKET || t.number(2) != unix.SO_DOMAIN {
		return proceed
	}
	fd, _, err := t.own()
	if err != nil {
		return proceed
	}
	defer unix.Close(fd)
	cookie, err := cookieOf(fd)
	if err != nil {
		return proceed
	}
	if r, ok := t.sockets.get(cookie); !ok || r.mapped {
		return proceed
	}
	var l [4]byte
	if readMemory(t.tid, t.args[4], l[:]) != nil {
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
	if writeMemory(t.tid, t.args[3], v[:room]) != nil || writeMemory(t.tid, t.args[4], l[:]) != nil {
		return fail(unix.EFAULT)
	}
	return reply{}
}

// hostOptions of SOL_IP are about interfaces and groups of the host.
var hostOptions = []int{
	unix.IP_MULTICAST_IF, unix.IP_ADD_MEMBERSHIP, unix.IP_ADD_SOURCE_MEMBERSHIP,
	unix.MCAST_JOIN_GROUP, unix.MCAST_JOIN_SOURCE_GROUP, unix.IP_UNICAST_IF,
}

// setsockopt sets the IPv6 counterpart of an IPv4 option on a socket that was
// replaced, and puts a socket of the host's back where the option needs one.
func (t *trapped) setsockopt() reply {
	level, opt := t.number(1), t.number(2)
	switch {
	case level == unix.SOL_SOCKET && (opt == optSendTimeoOld || opt == optSendTimeoNew):
		t.noteTimeout()
		return proceed
	case level == unix.SOL_SOCKET && (opt == unix.SO_BINDTODEVICE || opt == unix.SO_BINDTOIFINDEX),
		level == unix.SOL_IP && slices.Contains(hostOptions, opt):
		if t.hidden != nil {
			t.backToHost()
		}
		return proceed
	}
	to, ok := counterpart(opt)
	if level != unix.SOL_IP || !ok {
		return proceed
	}
	fd, _, err := t.own()
	if err != nil {
		return proceed
	}
	defer unix.Close(fd)
	cookie, err := cookieOf(fd)
	if err != nil {
		return proceed
	}
	if _, ok := t.sockets.get(cookie); !ok {
		return proceed
	}
	if v, ok := t.intAt(t.args[3], t.args[4]); ok {
		setInt(fd, unix.SOL_IPV6, to, v)
	}
	return proceed
}

// noteTimeout notes that a socket has a send timeout, which connect is to keep.
func (t *trapped) noteTimeout() {
	fd, _, err := t.own()
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if cookie, err := cookieOf(fd); err == nil {
		t.timed.add(cookie)
	}
}

// intAt reads the value of an option: an int, or a single byte.
func (t *trapped) intAt(at, size uint64) (int, bool) {
	var b [4]byte
	switch size := size & 0xffffffff; {
	case size >= 4 && size < 1<<16:
		if readMemory(t.tid, at, b[:]) != nil {
			return 0, false
		}
		return int(int32(binary.NativeEndian.Uint32(b[:]))), true
	case size >= 1 && size < 4:
		if readMemory(t.tid, at, b[:1]) != nil {
			return 0, false
		}
		return int(b[0]), true
	}
	return 0, false
}
