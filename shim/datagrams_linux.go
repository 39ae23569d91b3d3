package shim

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Datagrams without a hidden namespace. A socket that sends to an IPv4 address
// beyond NAT64 becomes an AF_INET6 one, which reaches IPv4 addresses of the host
// too (::ffff:a.b.c.d). The supervisor sends and receives in its name, so that
// names are IPv4 on both ways. That costs two context switches for each call.

// dgram returns the socket in argument 0 if it is a datagram socket that was
// replaced. The caller closes it.
func (t *trapped) dgram() (fd int, r replaced, ok bool) {
	fd, _, err := t.own()
	if err != nil {
		return -1, r, false
	}
	if cookie, err := cookieOf(fd); err == nil {
		if r, ok = t.sockets.get(cookie); ok && r.datagram {
			return fd, r, true
		}
	}
	unix.Close(fd)
	return -1, r, false
}

// outward returns the socket in argument 0 as one that can send to the address
// to, and replaces it if need be. The caller closes it. ok is false if the
// kernel's own call does.
func (t *trapped) outward(to name) (fd int, dest netip.AddrPort, errno unix.Errno, ok bool) {
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
	if err != nil || k.typ != unix.SOCK_DGRAM || k.proto != unix.IPPROTO_UDP || t.elsewhere(p) {
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
	status, err := fileStatus(old)
	if err != nil {
		return -1, dest, 0, false
	}
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|status&unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, dest, 0, false
	}
	copyOptions(old, s, k.typ, false)
	setInt(s, unix.SOL_IPV6, unix.IPV6_V6ONLY, 0)
	rep := replaced{datagram: true}
	if was, err := localName(old); err == nil && was.Port() != 0 {
		// The port is the old socket's until both have SO_REUSEADDR.
		setInt(old, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		setInt(s, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		local := netip.IPv6Unspecified()
		if !was.Addr().IsUnspecified() {
			rep.local = was.Addr()
		}
		unix.Bind(s, sockaddr(netip.AddrPortFrom(local, was.Port())))
	}
	cookie, err := cookieOf(s)
	if err == nil {
		t.sockets.set(cookie, rep)
		err = t.swap(p, t.fd(0), old, s, k.cookie)
	}
	if err != nil {
		unix.Close(s)
		return -1, dest, 0, false
	}
	return s, dest, 0, true
}

// sendDatagram sends b in the program's name.
func (t *trapped) sendDatagram(fd int, b []byte, flags int, to netip.AddrPort) reply {
	n, err := unix.SendmsgN(fd, b, nil, sockaddr(to), flags&^unix.MSG_DONTWAIT|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if err == unix.ECONNREFUSED { // an earlier datagram's
		return fail(err)
	}
	if err != nil {
		return fail(err)
	}
	return reply{val: int64(n)}
}

// trappedSendto answers sendto with a name.
func (t *trapped) trappedSendto() (reply, func() reply) {
	to, ok := t.named(4, 5)
	if !ok {
		return proceed, nil
	}
	fd, dest, errno, ok := t.outward(to)
	if !ok || errno != 0 {
		return reply{proceed: !ok, errno: errno}, nil
	}
	if t.args[2] > maxDatagram {
		unix.Close(fd)
		return fail(unix.EMSGSIZE), nil
	}
	b, err := t.data(t.args[1], t.args[2])
	if err != nil {
		unix.Close(fd)
		return fail(unix.EFAULT), nil
	}
	return t.finishSend(fd, t.number(3), func() reply { return t.sendDatagram(fd, b, t.number(3), dest) })
}

const maxDatagram = 65507

// finishSend calls send, again and again while the socket is full and the
// program is willing to wait, and closes the socket.
func (t *trapped) finishSend(fd, flags int, send func() reply) (reply, func() reply) {
	r := send()
	if r.errno != unix.EAGAIN || !t.waits(fd, flags) {
		unix.Close(fd)
		return r, nil
	}
	return reply{}, func() reply {
		defer unix.Close(fd)
		for {
			if !t.await(fd, unix.POLLOUT, time.Time{}) {
				return fail(unix.EINTR)
			}
			if r := send(); r.errno != unix.EAGAIN {
				return r
			}
		}
	}
}

// waits reports whether a call on the socket may block.
func (t *trapped) waits(fd, flags int) bool {
	status, err := fileStatus(fd)
	return err == nil && status&unix.O_NONBLOCK == 0 && flags&unix.MSG_DONTWAIT == 0
}

// await waits for events of the socket. It returns false when the time has
// come, or the program does not wait any more. The zero end is never.
func (t *trapped) await(fd int, events int16, end time.Time) bool {
	const look = 200 * time.Millisecond // whether the program still waits
	for {
		wait := look
		if !end.IsZero() {
			wait = min(wait, time.Until(end))
			if wait <= 0 {
				return false
			}
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(wait/time.Millisecond)+1)
		if n > 0 && err == nil {
			return true
		}
		if !t.listener.valid(t.id) {
			return false
		}
	}
}

// trappedSendmsg answers sendmsg, and each message of sendmmsg.
func (t *trapped) trappedSendmsg() (reply, func() reply) {
	m, err := t.header(t.args[1])
	if err != nil || len(m.name) == 0 {
		return proceed, nil
	}
	to, ok := parseName(m.name)
	if !ok {
		return proceed, nil
	}
	fd, dest, errno, ok := t.outward(to)
	if !ok || errno != 0 {
		return reply{proceed: !ok, errno: errno}, nil
	}
	b, err := t.gather(m)
	if err != nil {
		unix.Close(fd)
		return fail(unix.EFAULT), nil
	}
	return t.finishSend(fd, t.number(2), func() reply { return t.sendDatagram(fd, b, t.number(2), dest) })
}

// trappedSendmmsg sends the messages one by one.
func (t *trapped) trappedSendmmsg() (reply, func() reply) {
	size := t.mmsgSize()
	var first name
	if m, err := t.header(t.args[1]); err != nil || len(m.name) == 0 {
		return proceed, nil
	} else if to, ok := parseName(m.name); !ok {
		return proceed, nil
	} else {
		first = to
	}
	fd, _, errno, ok := t.outward(first)
	if !ok || errno != 0 {
		return reply{proceed: !ok, errno: errno}, nil
	}
	defer unix.Close(fd)
	tab := t.policy.Load()
	sent := 0
	for i := range min(t.args[2]&0xffffffff, maxSpans) {
		at := t.args[1] + i*size
		m, err := t.header(at)
		if err != nil {
			return partly(sent, unix.EFAULT), nil
		}
		to, ok := parseName(m.name)
		if !ok {
			return partly(sent, unix.EAFNOSUPPORT), nil
		}
		six := netip.AddrFrom16(to.Addr().As16())
		switch d, _ := tab.decide(to.Addr(), t.facts()); d {
		case NoPrefix:
			return partly(sent, unix.ENETUNREACH), nil
		case Translate:
			six, _ = tab.embed(to.Addr())
		}
		b, err := t.gather(m)
		if err != nil {
			return partly(sent, unix.EFAULT), nil
		}
		r := t.sendDatagram(fd, b, t.number(3), netip.AddrPortFrom(six, to.Port()))
		if r.errno != 0 {
			return partly(sent, r.errno), nil
		}
		var n [4]byte
		binary.NativeEndian.PutUint32(n[:], uint32(r.val))
		if writeMemory(t.tid, at+size-t.mmsgTail(), n[:]) != nil {
			return partly(sent, unix.EFAULT), nil
		}
		sent++
	}
	return reply{val: int64(sent)}, nil
}

// partly is the answer when some messages have gone.
func partly(n int, e unix.Errno) reply {
	if n > 0 {
		return reply{val: int64(n)}
	}
	return fail(e)
}

// mmsgSize is the size of struct mmsghdr of the program, and mmsgTail how far
// before its end the length is.
func (t *trapped) mmsgSize() uint64 {
	if t.abi.wide {
		return 64
	}
	return 32
}

func (t *trapped) mmsgTail() uint64 {
	if t.abi.wide {
		return 8
	}
	return 4
}

// received is a datagram for the program.
type received struct {
	data []byte
	size int // that it had; data may be shorter
	from name
}

// receive waits for a datagram in the program's name, and closes the socket.
// done makes the answer of it.
func (t *trapped) receive(fd int, r replaced, room, flags int, done func(received) reply) (reply, func() reply) {
	take := func() reply {
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
			return fail(unix.EAGAIN) // it stands for no IPv4 address
		}
		return done(received{b[:min(n, len(b))], n, name{netip.AddrPortFrom(a, from.Port()), r.mapped}})
	}
	answer := take()
	if answer.errno != unix.EAGAIN || !t.waits(fd, flags) {
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
			if !t.await(fd, unix.POLLIN, end) {
				return fail(unix.EAGAIN)
			}
			if answer := take(); answer.errno != unix.EAGAIN {
				return answer
			}
		}
	}
}

// trappedRecvfrom answers recvfrom with room for a name.
func (t *trapped) trappedRecvfrom() (reply, func() reply) {
	if t.args[4] == 0 {
		return proceed, nil
	}
	fd, r, ok := t.dgram()
	if !ok {
		return proceed, nil
	}
	flags := t.number(3)
	return t.receive(fd, r, int(min(t.args[2], maxData)), flags, func(got received) reply {
		if writeMemory(t.tid, t.args[1], got.data) != nil {
			return fail(unix.EFAULT)
		}
		if answer := t.putName(t.args[4], t.args[5], got.from); answer.errno != 0 {
			return answer
		}
		return reply{val: got.length(flags)}
	})
}

// length is what a call returns for a datagram.
func (r received) length(flags int) int64 {
	if flags&unix.MSG_TRUNC != 0 {
		return int64(r.size)
	}
	return int64(len(r.data))
}

// trappedRecvmsg answers recvmsg, and recvmmsg with one message at a time.
func (t *trapped) trappedRecvmsg() (reply, func() reply) {
	fd, r, ok := t.dgram()
	if !ok {
		return proceed, nil
	}
	at, flags := t.args[1], t.number(2)
	many := t.call == callRecvmmsg
	if many {
		flags = t.number(3)
		if t.args[2]&0xffffffff == 0 {
			unix.Close(fd)
			return reply{}, nil
		}
	}
	m, err := t.header(at)
	if err != nil {
		unix.Close(fd)
		return fail(unix.EFAULT), nil
	}
	room := 0
	for _, v := range m.iov {
		room += int(min(v.size, maxData))
		room = min(room, maxData)
	}
	return t.receive(fd, r, room, flags, func(got received) reply {
		if err := t.scatter(m, got.data); err != nil {
			return fail(unix.EFAULT)
		}
		if err := t.finishHeader(at, got); err != nil {
			return fail(unix.EFAULT)
		}
		n := got.length(flags)
		if !many {
			return reply{val: n}
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(n))
		if writeMemory(t.tid, at+t.mmsgSize()-t.mmsgTail(), b[:]) != nil {
			return fail(unix.EFAULT)
		}
		return reply{val: 1}
	})
}

// scatter writes data into the vector of a message.
func (t *trapped) scatter(m message, b []byte) error {
	for _, v := range m.iov {
		n := min(uint64(len(b)), v.size)
		if err := writeMemory(t.tid, v.at, b[:n]); err != nil {
			return err
		}
		if b = b[n:]; len(b) == 0 {
			return nil
		}
	}
	return nil
}

// finishHeader writes the name, the length of control data (none) and the flags
// into a struct msghdr.
func (t *trapped) finishHeader(at uint64, got received) error {
	var b [56]byte
	size, word := 56, 8
	if !t.abi.wide {
		size, word = 28, 4
	}
	if err := readMemory(t.tid, at, b[:size]); err != nil {
		return err
	}
	nameAt, room, _, _, _ := parseHeader(b[:size], t.abi.wide)
	e := binary.NativeEndian
	var n [8]byte
	if nameAt != 0 {
		name := got.from.bytes()
		if err := writeMemory(t.tid, nameAt, name[:min(len(name), int(room))]); err != nil {
			return err
		}
		e.PutUint32(n[:], uint32(len(name)))
		if err := writeMemory(t.tid, at+uint64(word), n[:4]); err != nil {
			return err
		}
	}
	clear(n[:])
	if err := writeMemory(t.tid, at+uint64(5*word), n[:word]); err != nil {
		return err
	}
	flags := uint32(0)
	if got.size > len(got.data) {
		flags = unix.MSG_TRUNC
	}
	e.PutUint32(n[:], flags)
	return writeMemory(t.tid, at+uint64(6*word), n[:4])
}
