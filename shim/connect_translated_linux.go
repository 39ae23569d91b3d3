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
	s, err = unix.Socket(unix.AF_INET6, k.typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return -1, local, err
	}
	copyOptions(old, s, k.typ, false)
	if was, err := localName(old); err == nil && was.IsValid() {
		if a := was.Addr().Unmap(); a.Is4() && !a.IsUnspecified() {
			local = a
		}
		if was.Port() != 0 {
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
	s, local, err := freshSocket(t, old, k)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(s)
	r.local = local
	err = connectTo(s, dest)
	if e, _ := err.(unix.Errno); err != nil && err != unix.EINPROGRESS {
		if fallsBack(t.supervisor, e, to.Addr(), tab) {
			return proceed
		}
		return fail(err)
	}
	if status&^unix.O_ACCMODE != unix.O_NONBLOCK {
		setFileStatus(s, status)
	}
	cookie, cerr := cookieOf(s)
	if cerr != nil {
		return fail(cerr)
	}
	t.sockets.set(cookie, r)
	if serr := swap(t, p, t.fd(0), old, s, k.cookie); serr != nil {
		return proceed // the thread has been interrupted, and comes again
	}
	switch {
	case err == nil:
		return remember(t, reply{}, cookie)
	case status&unix.O_NONBLOCK != 0:
		return remember(t, fail(err), cookie)
	}
	return proceed
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
