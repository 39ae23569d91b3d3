package shim

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// answerRecvmsg answers recvmsg, and recvmmsg with one message at a time.
func answerRecvmsg(t *trapped) (reply, func() reply) {
	if r, ok := answerListing(t); ok {
		return r, nil
	}
	fd, r, ok := replacedDatagram(t)
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
	if flags&unix.MSG_ERRQUEUE != 0 { // see openOutward
		unix.Close(fd)
		return fail(unix.EAGAIN), nil
	}
	m, err := t.mem.header(at)
	if err != nil {
		unix.Close(fd)
		return fail(unix.EFAULT), nil
	}
	room := 0
	for _, v := range m.iov {
		room += int(min(v.size, maxData))
		room = min(room, maxData)
	}
	return receiveDatagram(t, fd, r, room, flags, func(got received) reply {
		if err := t.mem.scatter(m, got.data); err != nil {
			return fail(unix.EFAULT)
		}
		cut := uint32(0)
		if got.size > len(got.data) {
			cut = unix.MSG_TRUNC
		}
		if err := t.mem.finishHeader(at, got.from.bytes(), cut); err != nil {
			return fail(unix.EFAULT)
		}
		n := got.length(flags)
		if !many {
			return reply{val: n}
		}
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(n))
		if t.mem.write(at+t.mem.mmsgSize()-t.mem.mmsgTail(), b[:]) != nil {
			return fail(unix.EFAULT)
		}
		return reply{val: 1}
	})
}
