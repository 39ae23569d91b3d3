package shim

import (
	"golang.org/x/sys/unix"
)

// answerSendto answers sendto(2) where the filter cannot tell that the kernel does it.
func answerSendto(t *trapped) (reply, func() reply) {
	size := t.args[5] & 0xffffffff
	if t.number(3)&msgFastOpen != 0 && size >= sizeofInet4 {
		to, ok := t.mem.socketName(t.args[4], t.args[5])
		if !ok {
			return sendOther(t), nil
		}
		return fastOpen(t, to, t.number(3), func() ([]byte, error) { return t.mem.data(t.args[1], t.args[2]) }), nil
	}
	if size == sizeofNetlink {
		return answerAddresses(t), nil
	}
	if t.hidden == nil && size >= sizeofInet4 {
		return sendtoByHand(t)
	}
	if t.hidden != nil && size >= sizeofInet6 {
		mappedDatagram(t)
	}
	return proceed, nil
}

// mappedDatagram gives an AF_INET6 socket that sends to ::ffff:a.b.c.d a place
// in the hidden namespace, so that answers have such addresses too.
func mappedDatagram(t *trapped) {
	to, ok := t.mem.socketName(t.args[4], t.args[5])
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
		toHidden(t, p, old, k)
	}
}

// sendtoByHand answers sendto with a name.
func sendtoByHand(t *trapped) (reply, func() reply) {
	to, ok := t.mem.socketName(t.args[4], t.args[5])
	if !ok {
		return sendOther(t), nil
	}
	fd, dest, errno, ok := outward(t, to)
	if !ok || errno != 0 {
		return reply{proceed: !ok, errno: errno}, nil
	}
	if t.args[2] > maxDatagram {
		unix.Close(fd)
		return fail(unix.EMSGSIZE), nil
	}
	b, err := t.mem.data(t.args[1], t.args[2])
	if err != nil {
		unix.Close(fd)
		return fail(unix.EFAULT), nil
	}
	return finishSend(t, fd, t.number(3), func() reply { return sendDatagram(t, fd, b, 0, t.number(3), dest) })
}
