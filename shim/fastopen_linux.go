package shim

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// fastOpen connects and sends at once (TCP Fast Open, RFC 7413).
func fastOpen(t *trapped, to name, flags int, data func() ([]byte, error)) reply {
	old, p, err := t.own()
	if err != nil {
		return proceed
	}
	defer unix.Close(old)
	k, err := t.inspect(old)
	if err != nil || k.typ != unix.SOCK_STREAM || t.elsewhere(p) {
		return proceed
	}
	was, is := t.sockets.get(k.cookie)
	if is && !was.early || !is && k.family == unix.AF_INET6 && !to.mapped {
		return proceed // it is connecting, or has nothing to do with IPv4
	}
	tab, d, _ := t.decide(to.Addr())
	switch d {
	case NoPrefix:
		return fail(unix.ENETUNREACH)
	case Native:
		if is {
			toIPv4(t, p, old, k.cookie)
		}
		return proceed
	}
	six, _ := tab.embed(to.Addr())
	b, err := data()
	if err != nil {
		return fail(unix.EFAULT)
	}
	status, err := fileStatus(old)
	if err != nil {
		return fail(err)
	}
	s, local := old, netip.Addr{}
	if !is {
		if s, local, err = freshSocket(t, old, k); err != nil {
			return fail(err)
		}
		defer unix.Close(s)
	}
	n, err := unix.SendmsgN(s, b, nil, sockaddr(netip.AddrPortFrom(six, to.Port())), msgFastOpen|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	if e, _ := err.(unix.Errno); err != nil && err != unix.EINPROGRESS {
		if fallsBack(t.supervisor, e, to.Addr(), tab) {
			if is {
				toIPv4(t, p, old, k.cookie)
			}
			return proceed
		}
		return fail(err)
	}
	if !is {
		setFileStatus(s, status)
	}
	cookie, cerr := cookieOf(s)
	if cerr != nil {
		return fail(cerr)
	}
	t.sockets.set(cookie, replaced{peer: to.AddrPort, local: local, mapped: to.mapped})
	if !is && swap(t, p, t.fd(0), old, s, k.cookie) != nil {
		return proceed
	}
	switch {
	case err == nil:
		return reply{val: int64(n)}
	case status&unix.O_NONBLOCK != 0 || flags&unix.MSG_DONTWAIT != 0:
		return remember(t, fail(err), cookie)
	}
	return proceed // its own call waits, and sends
}
