package shim

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// maxData is how much of a program's data is read at once.
const maxData = 64 << 10

// sendto answers sendto(2) where the filter cannot tell that the kernel does it.
func (t *trapped) sendto() (reply, func() reply) {
	size := t.args[5] & 0xffffffff
	if t.number(3)&msgFastOpen != 0 && size >= sizeofInet4 {
		to, ok := t.named(4, 5)
		if !ok {
			return proceed, nil
		}
		return t.fastOpen(to, t.number(3), func() ([]byte, error) { return t.data(t.args[1], t.args[2]) }), nil
	}
	if size == sizeofNetlink {
		return t.addresses(), nil
	}
	if t.hidden == nil && size >= sizeofInet4 {
		return t.trappedSendto()
	}
	if t.hidden != nil && size >= sizeofInet6 {
		t.mappedDatagram()
	}
	return proceed, nil
}

// sendmsg answers sendmsg(2) with MSG_FASTOPEN.
func (t *trapped) sendmsg() (reply, func() reply) {
	if t.number(2)&msgFastOpen == 0 {
		if t.hidden == nil {
			return t.trappedSendmsg()
		}
		return proceed, nil
	}
	h, err := t.header(t.args[1])
	if err != nil || len(h.name) == 0 {
		return proceed, nil
	}
	to, ok := parseName(h.name)
	if !ok {
		return proceed, nil
	}
	return t.fastOpen(to, t.number(2), func() ([]byte, error) { return t.gather(h) }), nil
}

// data reads what a program sends, up to maxData.
func (t *trapped) data(at, size uint64) ([]byte, error) {
	b := make([]byte, min(size, maxData))
	return b, readMemory(t.tid, at, b)
}

// message is struct msghdr of a program.
type message struct {
	name    []byte // at most maxName
	iov     []span
	control bool
}

// span is struct iovec.
type span struct{ at, size uint64 }

const maxSpans = 1024 // UIO_MAXIOV

// header reads a struct msghdr of a program with its name and vector.
func (t *trapped) header(at uint64) (m message, err error) {
	var b [56]byte
	size := 56
	if !t.abi.wide {
		size = 28
	}
	if err := readMemory(t.tid, at, b[:size]); err != nil {
		return m, err
	}
	nameAt, nameSize, iovAt, iovs, controls := parseHeader(b[:size], t.abi.wide)
	if nameAt != 0 && nameSize > 0 {
		m.name = make([]byte, min(nameSize, maxName))
		if err := readMemory(t.tid, nameAt, m.name); err != nil {
			return m, err
		}
	}
	if iovs > maxSpans {
		return m, unix.EMSGSIZE
	}
	word := 8
	if !t.abi.wide {
		word = 4
	}
	v := make([]byte, int(iovs)*2*word)
	if err := readMemory(t.tid, iovAt, v); err != nil {
		return m, err
	}
	m.iov = parseSpans(v, t.abi.wide)
	m.control = controls > 0
	return m, nil
}

// parseHeader takes a struct msghdr apart. b has its size.
func parseHeader(b []byte, wide bool) (nameAt uint64, nameSize uint32, iovAt, iovs, controls uint64) {
	e := binary.NativeEndian
	if wide {
		return e.Uint64(b), e.Uint32(b[8:]), e.Uint64(b[16:]), e.Uint64(b[24:]), e.Uint64(b[40:])
	}
	return uint64(e.Uint32(b)), e.Uint32(b[4:]), uint64(e.Uint32(b[8:])), uint64(e.Uint32(b[12:])), uint64(e.Uint32(b[20:]))
}

// parseSpans takes an array of struct iovec apart.
func parseSpans(b []byte, wide bool) (all []span) {
	e := binary.NativeEndian
	if wide {
		for ; len(b) >= 16; b = b[16:] {
			all = append(all, span{e.Uint64(b), e.Uint64(b[8:])})
		}
		return all
	}
	for ; len(b) >= 8; b = b[8:] {
		all = append(all, span{uint64(e.Uint32(b)), uint64(e.Uint32(b[4:]))})
	}
	return all
}

// gather reads the data of a message, up to maxData.
func (t *trapped) gather(m message) ([]byte, error) {
	var all []byte
	for _, v := range m.iov {
		b, err := t.data(v.at, min(v.size, uint64(maxData-len(all))))
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

// fastOpen connects and sends at once (TCP Fast Open, RFC 7413).
func (t *trapped) fastOpen(to name, flags int, data func() ([]byte, error)) reply {
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
			t.toIPv4(p, old, k.cookie)
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
		if s, local, err = t.fresh(old, k); err != nil {
			return fail(err)
		}
		defer unix.Close(s)
	}
	n, err := unix.SendmsgN(s, b, nil, sockaddr(netip.AddrPortFrom(six, to.Port())), msgFastOpen|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	if e, _ := err.(unix.Errno); err != nil && err != unix.EINPROGRESS {
		if t.fallsBack(e, to.Addr(), tab) {
			if is {
				t.toIPv4(p, old, k.cookie)
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
	if !is && t.swap(p, t.fd(0), old, s, k.cookie) != nil {
		return proceed
	}
	switch {
	case err == nil:
		return reply{val: int64(n)}
	case status&unix.O_NONBLOCK != 0 || flags&unix.MSG_DONTWAIT != 0:
		return t.remember(fail(err), cookie)
	}
	return proceed // its own call waits, and sends
}

// mappedDatagram gives an AF_INET6 socket that sends to ::ffff:a.b.c.d a place
// in the hidden namespace, so that answers have such addresses too.
func (t *trapped) mappedDatagram() {
	to, ok := t.named(4, 5)
	if !ok || !to.mapped {
		return
	}
	old, p, err := t.own()
	if err != nil {
		return
	}
	defer unix.Close(old)
	k, err := t.inspect(old)
	if err != nil || k.hidden || k.family != unix.AF_INET6 || k.typ != unix.SOCK_DGRAM || k.proto != unix.IPPROTO_UDP || t.elsewhere(nil) {
		return
	}
	if a, err := localName(old); err != nil || t.served.contains(k.cookie) || a.IsValid() && !a.Addr().Unmap().IsUnspecified() {
		return // it is to be reached here
	}
	if _, d, _ := t.decide(to.Addr()); d == Translate {
		t.toHidden(p, old, k)
	}
}
