package shim

import (
	"golang.org/x/sys/unix"
)

// answerRecvfrom answers recvfrom with room for a name.
func answerRecvfrom(t *trapped) (reply, func() reply) {
	if t.args[4] == 0 {
		return proceed, nil
	}
	fd, r, ok := replacedDatagram(t)
	if !ok {
		return proceed, nil
	}
	flags := t.number(3)
	return receiveDatagram(t, fd, r, int(min(t.args[2], maxData)), flags, func(got received) reply {
		if t.mem.write(t.args[1], got.data) != nil {
			return fail(unix.EFAULT)
		}
		if answer := t.mem.putName(t.args[4], t.args[5], got.from); answer.errno != 0 {
			return answer
		}
		return reply{val: got.length(flags)}
	})
}
