package shim

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/siit"
)

// Datagrams without a hidden namespace. A socket that sends to an IPv4 address
// beyond NAT64 becomes an AF_INET6 one, which reaches IPv4 addresses of the host
// too (::ffff:a.b.c.d). The supervisor sends and receives in its name, so that
// names are IPv4 on both ways. That costs two context switches for each call.

// replacedDatagram returns the socket in argument 0 if it is a datagram socket that was
// replaced. The caller closes it.
func replacedDatagram(t *trapped) (fd int, r replaced, ok bool) {
	return replacedSocket(t, func(r replaced) bool { return r.datagram })
}

// outward returns the socket in argument 0 as one that can send to the address
// to, and replaces it if need be. The caller closes it. ok is false if the
// kernel's own call does.
func outward(t *trapped, to name) (fd int, dest netip.AddrPort, errno unix.Errno, ok bool) {
	old, p, err := t.own()
	if err != nil {
		return -1, dest, 0, false
	}
	keep := false
	defer func() {
		if !keep {
			unix.Close(old)
		}
	}()
	k, err := t.inspect(old)
	if err != nil || k.typ != unix.SOCK_DGRAM || k.proto != unix.IPPROTO_UDP && k.proto != unix.IPPROTO_ICMP || t.elsewhere(p) {
		return -1, dest, 0, false
	}
	r, is := t.sockets.get(k.cookie)
	if !is && (k.family == unix.AF_INET6 && !to.mapped) {
		return -1, dest, 0, false
	}
	tab, d, _ := t.decide(to.Addr())
	six := netip.AddrFrom16(to.Addr().As16())
	switch d {
	case NoPrefix:
		return -1, dest, unix.ENETUNREACH, true
	case Native:
		if !is {
			return -1, dest, 0, false
		}
	case Translate:
		six, _ = tab.embed(to.Addr())
	}
	dest = netip.AddrPortFrom(six, to.Port())
	if is && r.datagram || k.family == unix.AF_INET6 {
		if !is {
			t.sockets.set(k.cookie, replaced{mapped: true, datagram: true})
		}
		keep = true
		return old, dest, 0, true
	}
	s, rep, err := openOutward(t, old, k)
	if err != nil {
		return -1, dest, 0, false
	}
	cookie, err := cookieOf(s)
	if err == nil {
		t.sockets.set(cookie, rep)
		err = swap(t, p, t.fd(0), old, s, k.cookie)
	}
	if err != nil {
		unix.Close(s)
		return -1, dest, 0, false
	}
	return s, dest, 0, true
}

// openOutward opens the AF_INET6 socket in the place of an AF_INET datagram or
// ping socket, with its options and its port. Errors that come back for it are
// not queued (IPV6_RECVERR): a program would have to understand ICMPv6.
func openOutward(t *trapped, old int, k kind) (s int, r replaced, err error) {
	status, err := fileStatus(old)
	if err != nil {
		return -1, r, err
	}
	proto := 0
	if k.proto == unix.IPPROTO_ICMP {
		proto = unix.IPPROTO_ICMPV6
	}
	s, err = t.openFor(func() (int, error) {
		return unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|status&unix.O_NONBLOCK, proto)
	})
	if err != nil {
		return -1, r, err
	}
	copyOptions(old, s, k.typ, false)
	setInt(s, unix.SOL_IPV6, unix.IPV6_RECVERR, 0)
	setInt(s, unix.SOL_IPV6, unix.IPV6_V6ONLY, 0)
	r.datagram = true
	if was, err := localName(old); err == nil && was.Port() != 0 {
		if !was.Addr().IsUnspecified() {
			r.local = was.Addr()
		}
		bindBeside(old, s, was.Port())
	}
	return s, r, nil
}

// bindBeside binds s to the port of old, on all addresses. Both share the port by an
// option that they have meanwhile only: with SO_REUSEADDR, a socket of another user
// could be bound to the port as well and get what comes for the program. SO_REUSEPORT
// admits sockets of one user only, and the user of old may be another than that of s.
func bindBeside(old, s int, port uint16) {
	at := sockaddr(netip.AddrPortFrom(netip.IPv6Unspecified(), port))
	for _, opt := range []int{unix.SO_REUSEPORT, unix.SO_REUSEADDR} {
		was, err := getInt(old, unix.SOL_SOCKET, opt)
		if err != nil {
			continue
		}
		setInt(old, unix.SOL_SOCKET, opt, 1)
		setInt(s, unix.SOL_SOCKET, opt, 1)
		err = unix.Bind(s, at)
		setInt(s, unix.SOL_SOCKET, opt, was)
		setInt(old, unix.SOL_SOCKET, opt, was)
		if err == nil {
			return
		}
	}
}

// isPing reports whether a socket sends and receives ICMPv6 echo messages.
func isPing(fd int) bool {
	proto, err := getInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return err == nil && proto == unix.IPPROTO_ICMPV6
}

// sendDatagram sends b in the program's name, as datagrams of segment bytes unless that
// is 0. An echo request becomes one of ICMPv6 (RFC 7915 section 4.2); the kernel
// computes its checksum.
func sendDatagram(t *trapped, fd int, b []byte, segment, flags int, to netip.AddrPort) reply {
	if isPing(fd) {
		if len(b) < sizeofICMP || b[0] != icmpEchoRequest {
			return fail(unix.EINVAL) // as the kernel says of ICMP sockets
		}
		b[0] = icmp6EchoRequest
	}
	flags |= unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	var control []byte
	several := segment > 0 && segment < len(b) && !isPing(fd)
	if several {
		control = appendControl(nil, unix.SOL_UDP, udpSegment, 2, segment)
	}
	n, err := unix.SendmsgN(fd, b, control, sockaddr(to), flags)
	if several && segments(len(b), segment) <= maxSegments && (err == unix.EINVAL || err == unix.EMSGSIZE || err == unix.EIO) {
		// They are too large with the header of IPv6, or the kernel cannot divide there.
		for n = 0; n < len(b); n += segment {
			if _, err = unix.SendmsgN(fd, b[n:min(n+segment, len(b))], nil, sockaddr(to), flags); err != nil && n == 0 {
				return fail(err)
			}
		}
		return reply{val: int64(len(b))} // what the socket has no room for is lost
	}
	if err != nil {
		return fail(err)
	}
	return reply{val: int64(n)}
}

const maxDatagram = 65507

// finishSend calls send, again and again while the socket is full and the
// program is willing to wait, and closes the socket.
func finishSend(t *trapped, fd, flags int, send func() reply) (reply, func() reply) {
	r := send()
	if r.errno != unix.EAGAIN || !waits(t, fd, flags) {
		unix.Close(fd)
		return r, nil
	}
	return reply{}, func() reply {
		defer unix.Close(fd)
		for {
			if !await(t, fd, unix.POLLOUT, time.Time{}) {
				return fail(unix.EINTR)
			}
			if r := send(); r.errno != unix.EAGAIN {
				return r
			}
		}
	}
}

// waits reports whether a call on the socket may block.
func waits(t *trapped, fd, flags int) bool {
	status, err := fileStatus(fd)
	return err == nil && status&unix.O_NONBLOCK == 0 && flags&unix.MSG_DONTWAIT == 0
}

// lookAfter is how often we look whether the program still waits for an answer.
const lookAfter = 200 * time.Millisecond

// waiting reports whether the program waits for the answer: a signal ends that.
func (t *trapped) waiting() bool { return t.listener.valid(t.id) }

// await waits for events of the socket. It returns false when the time has
// come, or the program does not wait any more. The zero end is never.
func await(t *trapped, fd int, events int16, end time.Time) bool {
	for {
		wait := lookAfter
		if !end.IsZero() {
			wait = min(wait, time.Until(end))
			if wait <= 0 {
				return false
			}
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(wait/time.Millisecond)+1)
		if n > 0 && err == nil {
			return t.waiting() // its memory is to be written
		}
		if !t.waiting() {
			return false
		}
	}
}

// received is a datagram for the program.
type received struct {
	data []byte
	size int // that it had; data may be shorter
	from name
}

// receiveDatagram waits for a datagram in the program's name, and closes the socket.
// done makes the answer of it.
func receiveDatagram(t *trapped, fd int, r replaced, room, flags int, done func(received) reply) (reply, func() reply) {
	ping, peek := isPing(fd), flags&unix.MSG_PEEK != 0
	cookie, err := cookieOf(fd)
	if err != nil {
		unix.Close(fd)
		return fail(err), nil
	}
	deliver := func(got received) reply {
		answer := done(got)
		if answer.errno == 0 && !peek {
			answer.undelivered = func() { t.undelivered.put(cookie, got) }
		}
		return answer
	}
	take := func() reply {
		if !t.waiting() {
			return fail(unix.EINTR) // what is there is for another call
		}
		if got, ok := t.undelivered.take(cookie, peek); ok {
			got.data = got.data[:min(room, len(got.data))]
			return deliver(got)
		}
		b := make([]byte, min(room, maxData))
		n, _, _, sa, err := unix.Recvmsg(fd, b, nil, flags&(unix.MSG_PEEK)|unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		if err != nil {
			return fail(err)
		}
		from := addrPort(sa)
		a := from.Addr()
		if a.Is4In6() {
			a = a.Unmap()
		} else if v4, ok := t.policy.Load().extract(a); ok {
			a = v4
		} else {
			if peek { // what is behind it would never be seen
				unix.Recvfrom(fd, nil, unix.MSG_DONTWAIT)
			}
			return fail(unix.EAGAIN) // it stands for no IPv4 address
		}
		b = b[:min(n, len(b))]
		if ping && !echoReply(b) {
			return fail(unix.EAGAIN)
		}
		return deliver(received{b, n, name{netip.AddrPortFrom(a, from.Port()), r.mapped}})
	}
	answer := take()
	if answer.errno != unix.EAGAIN || !waits(t, fd, flags) {
		unix.Close(fd)
		return answer, nil
	}
	var end time.Time
	if v, err := receiveTimeout(fd); err == nil && (v.Sec != 0 || v.Usec != 0) {
		end = time.Now().Add(time.Duration(v.Nano()))
	}
	return reply{}, func() reply {
		defer unix.Close(fd)
		for {
			// One that is undelivered does not make the socket readable.
			step := time.Now().Add(lookAfter)
			last := !end.IsZero() && !end.After(step)
			if last {
				step = end
			}
			if !await(t, fd, unix.POLLIN, step) && last {
				return fail(unix.EAGAIN)
			}
			if answer := take(); answer.errno != unix.EAGAIN {
				return answer
			}
		}
	}
}

// length is what a call returns for a datagram.
func (r received) length(flags int) int64 {
	if flags&unix.MSG_TRUNC != 0 {
		return int64(r.size)
	}
	return int64(len(r.data))
}

// echoReply makes an ICMP echo reply of one of ICMPv6, and reports whether it
// is one (RFC 7915 section 5.2).
func echoReply(b []byte) bool {
	if len(b) < sizeofICMP || b[0] != icmp6EchoReply {
		return false
	}
	b[0], b[2], b[3] = icmpEchoReply, 0, 0
	binary.BigEndian.PutUint16(b[2:], ^siit.Sum(b, 0))
	return true
}
