package shim

import (
	"slices"

	"golang.org/x/sys/unix"
)

// hostOptions of SOL_IP are about interfaces and groups of the host.
var hostOptions = []int{
	unix.IP_MULTICAST_IF, unix.IP_ADD_MEMBERSHIP, unix.IP_ADD_SOURCE_MEMBERSHIP,
	unix.MCAST_JOIN_GROUP, unix.MCAST_JOIN_SOURCE_GROUP, unix.IP_UNICAST_IF,
}

// answerSetsockopt sets the IPv6 counterpart of an IPv4 option on a socket that was
// replaced, and puts a socket of the host's back where the option needs one.
func answerSetsockopt(t *trapped) reply {
	level, opt := t.number(1), t.number(2)
	switch {
	case level == unix.SOL_SOCKET && (opt == optSendTimeoOld || opt == optSendTimeoNew):
		noteTimeout(t)
		return proceed
	case level == unix.SOL_SOCKET && (opt == unix.SO_BINDTODEVICE || opt == unix.SO_BINDTOIFINDEX),
		level == unix.SOL_IP && slices.Contains(hostOptions, opt):
		if t.hidden != nil {
			backToHost(t)
		}
		return proceed
	}
	to, ok := counterpart(opt)
	if level != unix.SOL_IP || !ok {
		return proceed
	}
	fd, _, ok := replacedSocket(t, func(r replaced) bool { return !r.datagram || opt != unix.IP_RECVERR })
	if !ok {
		return proceed
	}
	defer unix.Close(fd)
	if v, ok := t.mem.intAt(t.args[3], t.args[4]); ok {
		setInt(fd, unix.SOL_IPV6, to, v)
	}
	return proceed
}

// noteTimeout notes that a socket has a send timeout, which connect is to keep.
func noteTimeout(t *trapped) {
	fd, _, err := t.own()
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if cookie, err := cookieOf(fd); err == nil {
		t.timed.add(cookie)
	}
}
