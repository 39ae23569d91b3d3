package shim

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// answerConnect answers connect(2).
func answerConnect(t *trapped) (reply, func() reply) {
	to, ok := t.mem.socketName(t.args[1], t.args[2])
	if !ok {
		if t.args[2]&0xffffffff == sizeofInet4 {
			t.closed()
		}
		return connectOther(t), nil
	}
	old, p, err := t.own()
	if err != nil {
		return proceed, nil // EBADF is the kernel's to say
	}
	later := false
	defer func() {
		if !later {
			unix.Close(old)
		}
	}()
	cookie, err := cookieOf(old)
	if err != nil {
		return proceed, nil // ENOTSOCK is the kernel's to say
	}
	// A program that is interrupted comes again, perhaps before we are done.
	lock := connectLock(t.supervisor, cookie)
	lock.Lock()
	defer lock.Unlock()
	r, is := t.sockets.get(cookie)
	if is && !r.datagram && !t.limits.permitted(t.tid, to.Port()) {
		return fail(unix.EACCES), nil
	}
	if is && r.early && !to.mapped {
		if answer, done := connectEarly(t, old, p, cookie, to); done {
			return patiently(t, old, cookie, answer)
		}
		// It is an AF_INET socket now.
		if second, _, err := t.own(); err == nil {
			unix.Close(old)
			old = second
		}
		is = false
	}
	k, err := t.inspect(old)
	if err != nil || k.family != unix.AF_INET && k.family != unix.AF_INET6 {
		return proceed, nil
	}
	if k.family == unix.AF_INET6 && !is && !to.mapped {
		return proceed, nil // EAFNOSUPPORT is the kernel's to say
	}
	switch {
	case t.elsewhere(p):
		return proceed, nil
	case k.typ == unix.SOCK_STREAM && !t.limits.permitted(t.tid, to.Port()):
		return fail(unix.EACCES), nil
	case k.hidden:
		// The relay takes it anywhere. It cannot say at once that there is no way.
		if _, d, _ := t.decide(to.Addr()); d == NoPrefix {
			return fail(unix.ENETUNREACH), nil
		}
		return proceed, nil
	case is:
		return patiently(t, old, cookie, connectAgain(t, old, k, r, to))
	case k.typ != unix.SOCK_STREAM && k.typ != unix.SOCK_DGRAM, k.proto == unix.IPPROTO_ICMP, k.proto == unix.IPPROTO_ICMPV6:
		return proceed, nil
	case k.typ == unix.SOCK_STREAM && listens(old):
		return proceed, nil // EISCONN is the kernel's to say
	}
	tab, d, why := t.decide(to.Addr())
	switch {
	case d == NoPrefix:
		return fail(unix.ENETUNREACH), nil
	case d == Native && why == WhyFirst && k.typ == unix.SOCK_STREAM:
		later = true
		return ipv4First(t, tab, old, p, k, to)
	case d == Native:
		return proceed, nil
	case k.family == unix.AF_INET6 && k.typ == unix.SOCK_DGRAM && t.hidden != nil && !t.served.contains(k.cookie):
		// Its datagrams are to show ::ffff:a.b.c.d as their source.
		toHidden(t, p, old, k)
		return proceed, nil
	case k.family == unix.AF_INET && k.typ == unix.SOCK_DGRAM && t.hidden != nil && boundToHidden(t, p, old, k):
		return proceed, nil
	}
	return patiently(t, old, cookie, connectTranslated(t, tab, old, p, k, to))
}

// boundToHidden gives an AF_INET datagram socket of the host's, which has been bound to
// a port, the same port in the hidden namespace, and reports whether it could: the
// source of what it receives is to be an IPv4 address.
func boundToHidden(t *trapped, p *process, old int, k kind) bool {
	a, err := localName(old)
	if err != nil || !a.Addr().IsUnspecified() || a.Port() == 0 {
		return false
	}
	if device, err := getInt(old, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX); err != nil || device != 0 {
		return false
	}
	return toHiddenPort(t, p, old, k, a.Port()) == nil
}

// listens reports whether a socket accepts connections.
func listens(fd int) bool {
	v, err := getInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && v != 0
}

// connectLock returns the lock of those that answer connect on a socket.
func connectLock(s *supervisor, cookie uint64) *sync.Mutex {
	return &s.connecting[cookie%uint64(len(s.connecting))]
}

// connectEarly connects a socket that was made for NAT64. If it is not for that,
// the socket becomes AF_INET, and done is false.
func connectEarly(t *trapped, fd int, p *process, cookie uint64, to name) (answer reply, done bool) {
	tab, d, _ := t.decide(to.Addr())
	switch {
	case t.elsewhere(p):
		return proceed, true
	case d == NoPrefix:
		return fail(unix.ENETUNREACH), true
	case d == Native:
		return proceed, toIPv4(t, p, fd, cookie) != nil
	}
	six, _ := tab.embed(to.Addr())
	answer = startConnect(t, fd, netip.AddrPortFrom(six, to.Port()))
	if e := answer.errno; e != 0 && e != unix.EINPROGRESS {
		if fallsBack(t.supervisor, e, to.Addr(), tab) {
			return proceed, toIPv4(t, p, fd, cookie) != nil
		}
		return answer, true // it may try again
	}
	t.sockets.set(cookie, replaced{peer: to.AddrPort})
	return remember(t, answer, cookie), true
}

// patiently waits in the place of a program whose own call would not: one that has
// set a timeout (SO_SNDTIMEO), when that has passed, or is restricted.
func patiently(t *trapped, old int, cookie uint64, r reply) (reply, func() reply) {
	timed, restricted := t.timed.contains(cookie), t.limits.restricted(t.tid)
	if !r.waits || !timed && !restricted {
		return r, nil
	}
	v, err := sendTimeout(old)
	if err != nil || !restricted && v.Sec == 0 && v.Usec == 0 {
		return r, nil
	}
	fd, _, err := t.own() // by now the socket that connects
	if err != nil {
		return r, nil
	}
	if restricted {
		return r, func() reply {
			defer unix.Close(fd)
			return waitForConnection(t, fd, time.Duration(v.Nano()))
		}
	}
	if connecting, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO); err != nil || connecting.State != unix.BPF_TCP_SYN_SENT {
		unix.Close(fd)
		return r, nil
	}
	return r, func() reply {
		defer unix.Close(fd)
		if !settled(fd, time.Duration(v.Nano()), t.waiting) {
			return fail(unix.EINPROGRESS)
		}
		return proceed // the kernel says how it has ended
	}
}

// waitForConnection answers connect when a connection is made or has failed, or
// after limit unless that is 0.
func waitForConnection(t *trapped, fd int, limit time.Duration) reply {
	var end time.Time
	if limit > 0 {
		end = time.Now().Add(limit)
	}
	if !await(t, fd, unix.POLLOUT, end) {
		return fail(unix.EINPROGRESS)
	}
	e, err := getInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return fail(err)
	}
	return reply{errno: unix.Errno(e)}
}

// connectAgain is connect on a socket that has been replaced: the program continues,
// or tries another destination after a failure.
func connectAgain(t *trapped, fd int, k kind, r replaced, to name) reply {
	six := netip.AddrFrom16(to.Addr().As16()) // ::ffff:a.b.c.d, IPv4
	tab, d, _ := t.decide(to.Addr())
	switch d {
	case Translate:
		six, _ = tab.embed(to.Addr())
	case NoPrefix:
		return fail(unix.ENETUNREACH)
	}
	restarted := r.peer == to.AddrPort && r.answered.restarted(t.tid, time.Now())
	r.peer = to.AddrPort
	if !restarted {
		r.answered = answered{}
	}
	t.sockets.set(k.cookie, r)
	answer := startConnect(t, fd, netip.AddrPortFrom(six, to.Port()))
	switch {
	case restarted && answer.errno == unix.EALREADY:
		answer.errno = unix.EINPROGRESS
	case restarted && answer.errno == unix.EISCONN:
		answer.errno = 0
	}
	return remember(t, answer, k.cookie)
}

// remember makes the answer be repeated if the program is interrupted now. It
// is written down before the answer is sent: the call may come again at once.
func remember(t *trapped, r reply, cookie uint64) reply {
	if r.proceed || r.errno != unix.EINPROGRESS && r.errno != 0 {
		return r
	}
	note := func(lost bool) {
		if e, ok := t.sockets.get(cookie); ok {
			e.answered = answered{tid: t.tid, at: time.Now(), connected: r.errno == 0, lost: lost}
			t.sockets.set(cookie, e)
		}
	}
	note(false)
	r.undelivered = func() { note(true) }
	return r
}

// startConnect begins a connection. Where the program is to wait for it, its own call
// does: the kernel does not look at the address a second time, and timeouts and
// signals are as always.
func startConnect(t *trapped, fd int, to netip.AddrPort) reply {
	status, err := fileStatus(fd)
	if err != nil {
		return fail(err)
	}
	blocking := status&unix.O_NONBLOCK == 0
	if blocking {
		setFileStatus(fd, status|unix.O_NONBLOCK)
	}
	err = connectTo(fd, to)
	if blocking {
		setFileStatus(fd, status)
	}
	switch {
	case err == nil:
		return reply{}
	case blocking && (err == unix.EINPROGRESS || err == unix.EALREADY):
		return reply{proceed: true, waits: true}
	}
	return fail(err)
}
