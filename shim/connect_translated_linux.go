package shim

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// freshSocket makes the AF_INET6 socket that takes over from old, with its options and
// its port. The caller closes it.
func freshSocket(t *trapped, old int, k kind) (s int, local netip.Addr, err error) {
	proto := k.proto
	s, err = t.openFor(func() (int, error) {
		return unix.Socket(unix.AF_INET6, k.typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	})
	if err != nil {
		return -1, local, err
	}
	copyOptions(old, s, k.typ, false)
	if was, err := localName(old); err == nil && was.IsValid() {
		if a := was.Addr().Unmap(); a.Is4() && !a.IsUnspecified() {
			local = a
		}
		if was.Port() != 0 && hasPort(old) {
			// Beside the IPv4 socket, which has the port until it is closed.
			setInt(s, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
			if err := unix.Bind(s, &unix.SockaddrInet6{Port: int(was.Port())}); err != nil {
				unix.Close(s)
				return -1, local, err
			}
		}
	}
	return s, local, nil
}

// hasPort reports whether an AF_INET TCP socket that names a port has it: after
// a connection that failed the name is left. It gives the socket one if not, which
// does no harm to a socket that is about to be replaced.
func hasPort(fd int) bool {
	return unix.Bind(fd, &unix.SockaddrInet4{}) == unix.EINVAL
}

// connectTranslated connects through NAT64.
func connectTranslated(t *trapped, tab *table, old int, p *process, k kind, to name) reply {
	six, ok := tab.embed(to.Addr())
	if !ok {
		return fail(unix.ENETUNREACH)
	}
	dest := netip.AddrPortFrom(six, to.Port())
	r := replaced{peer: to.AddrPort, mapped: k.family == unix.AF_INET6, datagram: k.typ == unix.SOCK_DGRAM}
	if k.family == unix.AF_INET6 && !bound(old) {
		// It can go there as it is.
		t.sockets.set(k.cookie, r)
		answer := startConnect(t, old, dest)
		if fallsBack(t.supervisor, answer.errno, to.Addr(), tab) {
			return proceed
		}
		return remember(t, answer, k.cookie)
	}
	status, err := fileStatus(old)
	if err != nil {
		return fail(err)
	}
	c, begun := t.started.take(k.cookie, to.AddrPort)
	if !begun {
		if c, err = start(t, old, k, status, dest); exhausted(err) {
			t.runOut(err)
			return proceed
		}
		if err != nil {
			return fail(err)
		}
		if fallsBack(t.supervisor, c.errno, to.Addr(), tab) {
			unix.Close(c.fd)
			return proceed
		}
		if c.errno != 0 && c.errno != unix.EINPROGRESS {
			unix.Close(c.fd)
			return fail(c.errno)
		}
		c.peer = to.AddrPort
	}
	r.local = c.local
	t.sockets.set(c.cookie, r)
	if swap(t, p, t.fd(0), old, c.fd, k.cookie) != nil {
		t.started.put(k.cookie, c) // the thread has been interrupted, and comes again
		return proceed
	}
	unix.Close(c.fd)
	switch {
	case c.errno == 0:
		return remember(t, reply{}, c.cookie)
	case status&unix.O_NONBLOCK != 0:
		return remember(t, fail(c.errno), c.cookie)
	}
	return reply{proceed: true, waits: true}
}

// start begins a connection on a fresh socket in the place of old. Whether that
// has failed says errno; it is never a reason to wait.
func start(t *trapped, old int, k kind, status int, dest netip.AddrPort) (c started, err error) {
	if c, err = freshStarted(t, old, k); err != nil {
		return c, err
	}
	c.errno, _ = connectTo(c.fd, dest).(unix.Errno)
	if status&^unix.O_ACCMODE != unix.O_NONBLOCK {
		setFileStatus(c.fd, status)
	}
	return c, nil
}

// bound reports whether an AF_INET6 socket has a port, or an address of IPv4.
func bound(fd int) bool {
	was, err := localName(fd)
	return err == nil && was.Addr().Is4In6() && !was.Addr().Unmap().IsUnspecified()
}

// fallsBack reports whether IPv4 is to be used as IPv6 has no way, and
// remembers it for this destination.
func fallsBack(s *supervisor, e unix.Errno, a netip.Addr, tab *table) bool {
	switch e {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EADDRNOTAVAIL, unix.EAFNOSUPPORT, unix.ENETDOWN:
	default:
		return false
	}
	s.stale()
	if tab.fallback == FallbackNever || !routeTo(a) {
		return false
	}
	s.memory.set(a, true, time.Now())
	s.say("fallback "+a.String(), "IPv6 has no route for %s: using IPv4 for the next 10 minutes", a)
	return true
}
