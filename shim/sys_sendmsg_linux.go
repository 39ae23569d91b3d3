package shim

import (
	"golang.org/x/sys/unix"
)

// answerSendmsg answers sendmsg(2) with MSG_FASTOPEN.
func answerSendmsg(t *trapped) (reply, func() reply) {
	if t.number(2)&msgFastOpen == 0 {
		if t.hidden == nil {
			return sendmsgByHand(t)
		}
		return proceed, nil
	}
	h, err := t.mem.header(t.args[1])
	if err != nil || len(h.name) == 0 {
		return proceed, nil
	}
	to, ok := parseName(h.name)
	if !ok {
		return sendOther(t), nil
	}
	return fastOpen(t, to, t.number(2), func() ([]byte, error) { return t.mem.gather(h) }), nil
}

// sendmsgByHand answers sendmsg, and each message of sendmmsg.
func sendmsgByHand(t *trapped) (reply, func() reply) {
	m, err := t.mem.header(t.args[1])
	if err != nil || len(m.name) == 0 {
		return proceed, nil
	}
	to, ok := parseName(m.name)
	if !ok {
		return sendOther(t), nil
	}
	fd, dest, errno, ok := outward(t, to)
	if !ok || errno != 0 {
		return reply{proceed: !ok, errno: errno}, nil
	}
	b, err := t.mem.gather(m)
	if err != nil {
		unix.Close(fd)
		return fail(unix.EFAULT), nil
	}
	return finishSend(t, fd, t.number(2), func() reply { return sendDatagram(t, fd, b, m.segment, t.number(2), dest) })
}
