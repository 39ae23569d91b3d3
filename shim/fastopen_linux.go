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
	if !t.limits.permitted(t.tid, to.Port()) {
		return fail(unix.EACCES)
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
	c, begun := started{fd: old, cookie: k.cookie}, false
	if !is {
		if c, begun = t.started.take(k.cookie, to.AddrPort); !begun {
			if c, err = freshStarted(t, old, k); err != nil {
				return fail(err)
			}
			c.peer = to.AddrPort
		}
	}
	keep := is
	defer func() {
		if !keep {
			unix.Close(c.fd)
		}
	}()
	if !begun {
		c.sent, err = unix.SendmsgN(c.fd, b, nil, sockaddr(netip.AddrPortFrom(six, to.Port())), msgFastOpen|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if c.errno, _ = err.(unix.Errno); c.errno != 0 && c.errno != unix.EINPROGRESS {
			if fallsBack(t.supervisor, c.errno, to.Addr(), tab) {
				if is {
					toIPv4(t, p, old, k.cookie)
				}
				return proceed
			}
			return fail(c.errno)
		}
	}
	t.sockets.set(c.cookie, replaced{peer: to.AddrPort, local: c.local, mapped: to.mapped})
	if !is {
		setFileStatus(c.fd, status)
		if swap(t, p, t.fd(0), old, c.fd, k.cookie) != nil {
			t.started.put(k.cookie, c)
			keep = true
			return proceed
		}
	}
	switch {
	case c.errno == 0:
		return reply{val: int64(c.sent)}
	case status&unix.O_NONBLOCK != 0 || flags&unix.MSG_DONTWAIT != 0:
		return remember(t, fail(c.errno), c.cookie)
	}
	return proceed // its own call waits, and sends
}
