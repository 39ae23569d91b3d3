package shim

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// connect answers connect(2).
func (t *trapped) connect() (reply, func() reply) {
	to, ok := t.named(1, 2)
	if !ok {
		return proceed, nil
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
	lock := t.connectLock(cookie)
	lock.Lock()
	defer lock.Unlock()
	r, is := t.sockets.get(cookie)
	if is && r.early && !to.mapped {
		if answer, done := t.connectEarly(old, p, cookie, to); done {
			return t.patiently(old, cookie, answer)
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
	case k.hidden:
		// The relay takes it anywhere. It cannot say at once that there is no way.
		if _, d, _ := t.decide(to.Addr()); d == NoPrefix {
			return fail(unix.ENETUNREACH), nil
		}
		return proceed, nil
	case is:
		return t.patiently(old, cookie, t.again(old, k, r, to))
	case k.typ != unix.SOCK_STREAM && k.typ != unix.SOCK_DGRAM, k.proto == unix.IPPROTO_ICMP, k.proto == unix.IPPROTO_ICMPV6:
		return proceed, nil
	}
	tab, d, why := t.decide(to.Addr())
	switch {
	case d == NoPrefix:
		return fail(unix.ENETUNREACH), nil
	case d == Native && why == WhyFirst && k.typ == unix.SOCK_STREAM:
		later = true
		return t.ipv4First(tab, old, p, k, to)
	case d == Native:
		return proceed, nil
	case k.family == unix.AF_INET6 && k.typ == unix.SOCK_DGRAM && t.hidden != nil && !t.served.contains(k.cookie):
		// Its datagrams are to show ::ffff:a.b.c.d as their source.
		if t.toHidden(p, old, k) != nil {
			return proceed, nil
		}
		return proceed, nil
	}
	return t.patiently(old, cookie, t.translate(tab, old, p, k, to))
}

// connectLock returns the lock of those that answer connect on a socket.
func (s *supervisor) connectLock(cookie uint64) *sync.Mutex {
	return &s.connecting[cookie%uint64(len(s.connecting))]
}

// connectEarly connects a socket that was made for NAT64. If it is not for that,
// the socket becomes AF_INET, and done is false.
func (t *trapped) connectEarly(fd int, p *process, cookie uint64, to name) (answer reply, done bool) {
	tab, d, _ := t.decide(to.Addr())
	switch {
	case t.elsewhere(p):
		return proceed, true
	case d == NoPrefix:
		return fail(unix.ENETUNREACH), true
	case d == Native:
		return proceed, t.toIPv4(p, fd, cookie) != nil
	}
	six, _ := tab.embed(to.Addr())
	answer = t.start(fd, netip.AddrPortFrom(six, to.Port()))
	if e := answer.errno; e != 0 && e != unix.EINPROGRESS {
		if t.fallsBack(e, to.Addr(), tab) {
			return proceed, t.toIPv4(p, fd, cookie) != nil
		}
		return answer, true // it may try again
	}
	t.sockets.set(cookie, replaced{peer: to.AddrPort})
	return t.remember(answer, cookie), true
}

// patiently waits in the place of a program that has set a timeout
// (SO_SNDTIMEO). Its own call would return EALREADY when that has passed.
func (t *trapped) patiently(old int, cookie uint64, r reply) (reply, func() reply) {
	if !r.proceed || !t.timed.contains(cookie) {
		return r, nil
	}
	v, err := sendTimeout(old)
	if err != nil || v.Sec == 0 && v.Usec == 0 {
		return r, nil
	}
	fd, _, err := t.own() // by now the socket that connects
	if err != nil {
		return r, nil
	}
	if connecting, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO); err != nil || connecting.State != unix.BPF_TCP_SYN_SENT {
		unix.Close(fd)
		return r, nil
	}
	return r, func() reply {
		defer unix.Close(fd)
		if !settled(fd, time.Duration(v.Nano())) {
			return fail(unix.EINPROGRESS)
		}
		return proceed // the kernel says how it has ended
	}
}

// again is connect on a socket that has been replaced: the program continues,
// or tries another destination after a failure.
func (t *trapped) again(fd int, k kind, r replaced, to name) reply {
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
	answer := t.start(fd, netip.AddrPortFrom(six, to.Port()))
	switch {
	case restarted && answer.errno == unix.EALREADY:
		answer.errno = unix.EINPROGRESS
	case restarted && answer.errno == unix.EISCONN:
		answer.errno = 0
	}
	return t.remember(answer, k.cookie)
}

// remember makes the answer be repeated if the program is interrupted now. It
// is written down before the answer is sent: the call may come again at once.
func (t *trapped) remember(r reply, cookie uint64) reply {
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

// start begins a connection. Where the program is to wait for it, its own call
// does: the kernel does not look at the address a second time, and timeouts and
// signals are as always.
func (t *trapped) start(fd int, to netip.AddrPort) reply {
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
		return proceed
	}
	return fail(err)
}

// fresh makes the AF_INET6 socket that takes over from old, with its options and
// its port. The caller closes it.
func (t *trapped) fresh(old int, k kind) (s int, local netip.Addr, err error) {
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

// translate connects through NAT64.
func (t *trapped) translate(tab *table, old int, p *process, k kind, to name) reply {
	six, ok := tab.embed(to.Addr())
	if !ok {
		return fail(unix.ENETUNREACH)
	}
	dest := netip.AddrPortFrom(six, to.Port())
	r := replaced{peer: to.AddrPort, mapped: k.family == unix.AF_INET6, datagram: k.typ == unix.SOCK_DGRAM}
	if k.family == unix.AF_INET6 && !bound(old) {
		// It can go there as it is.
		t.sockets.set(k.cookie, r)
		answer := t.start(old, dest)
		if t.fallsBack(answer.errno, to.Addr(), tab) {
			return proceed
		}
		return t.remember(answer, k.cookie)
	}
	status, err := fileStatus(old)
	if err != nil {
		return fail(err)
	}
	s, local, err := t.fresh(old, k)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(s)
	r.local = local
	err = connectTo(s, dest)
	if e, _ := err.(unix.Errno); err != nil && err != unix.EINPROGRESS {
		if t.fallsBack(e, to.Addr(), tab) {
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
	if serr := t.swap(p, t.fd(0), old, s, k.cookie); serr != nil {
		return proceed // the thread has been interrupted, and comes again
	}
	switch {
	case err == nil:
		return t.remember(reply{}, cookie)
	case status&unix.O_NONBLOCK != 0:
		return t.remember(fail(err), cookie)
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
func (s *supervisor) fallsBack(e unix.Errno, a netip.Addr, tab *table) bool {
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

// firstTimeout is how long IPv4 is tried before NAT64.
const firstTimeout = 5 * time.Second

// ipv4First tries IPv4. It takes over old.
func (t *trapped) ipv4First(tab *table, old int, p *process, k kind, to name) (reply, func() reply) {
	status, err := fileStatus(old)
	if err != nil {
		unix.Close(old)
		return fail(err), nil
	}
	dest := to.AddrPort
	if k.family == unix.AF_INET6 {
		dest = netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
	}
	if status&unix.O_NONBLOCK != 0 {
		// The program does not wait: what comes of it counts for the next time.
		err := connectTo(old, dest)
		if err == unix.EINPROGRESS {
			go func() {
				defer unix.Close(old)
				t.judge(tab, to.Addr(), connected(old, firstTimeout))
			}()
			return fail(err), nil
		}
		defer unix.Close(old)
		if e, _ := err.(unix.Errno); err != nil && t.judge(tab, to.Addr(), e) {
			return t.translate(tab, old, p, k, to), nil
		}
		if err != nil {
			return fail(err), nil
		}
		return reply{}, nil
	}
	return reply{}, func() reply {
		defer unix.Close(old)
		lock := t.connectLock(k.cookie)
		lock.Lock()
		r := t.start(old, dest)
		lock.Unlock()
		e := r.errno
		if r.proceed {
			e = connected(old, firstTimeout)
		}
		if e != 0 && t.judge(tab, to.Addr(), e) {
			unix.Connect(old, &unix.SockaddrInet4{}) // no effect if it has failed
			return t.translate(tab, old, p, k, to)
		}
		return reply{errno: e}
	}
}

// judge remembers whether IPv4 works for a destination, and reports whether
// NAT64 is to be used.
func (s *supervisor) judge(tab *table, a netip.Addr, e unix.Errno) bool {
	switch e {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ETIMEDOUT, unix.ENETDOWN, unix.EADDRNOTAVAIL:
	default:
		return false // it answers, or the program has done something wrong
	}
	if _, have := tab.embed(a); !have {
		return false
	}
	s.memory.set(a, false, time.Now())
	s.say("first "+a.String(), "IPv4 does not reach %s: using NAT64 for the next 10 minutes", a)
	return true
}

// connected waits for a connection and returns its error.
func connected(fd int, limit time.Duration) unix.Errno {
	if !settled(fd, limit) {
		return unix.ETIMEDOUT
	}
	e, err := getInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return unix.EIO
	}
	return unix.Errno(e)
}

// settled waits until a connection is made or has failed.
func settled(fd int, limit time.Duration) bool {
	end := time.Now().Add(limit)
	for {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(p, int(min(left, time.Hour)/time.Millisecond)+1)
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		return true
	}
}
