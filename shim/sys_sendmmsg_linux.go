package shim

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// answerSendmmsg sends the messages one by one, where datagrams are trapped.
func answerSendmmsg(t *trapped) (reply, func() reply) {
	if t.number(3)&msgFastOpen != 0 {
		if r := sendOther(t); !r.proceed {
			if m, err := t.mem.header(t.args[1]); err == nil {
				if _, ok := parseName(m.name); ok {
					r = fail(unix.EOPNOTSUPP) // no program is known that connects so
				}
			}
			return r, nil
		}
	}
	if t.hidden != nil {
		return proceed, nil
	}
	size := t.mem.mmsgSize()
	var first name
	if m, err := t.mem.header(t.args[1]); err != nil || len(m.name) == 0 {
		return proceed, nil
	} else if to, ok := parseName(m.name); !ok {
		return sendOther(t), nil
	} else {
		first = to
	}
	fd, _, errno, ok := outward(t, first)
	if !ok || errno != 0 {
		return reply{proceed: !ok, errno: errno}, nil
	}
	defer unix.Close(fd)
	tab := t.policy.Load()
	sent := 0
	for i := range min(t.args[2]&0xffffffff, maxSpans) {
		at := t.args[1] + i*size
		m, err := t.mem.header(at)
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
		b, err := t.mem.gather(m)
		if err != nil {
			return partly(sent, unix.EFAULT), nil
		}
		r := sendDatagram(t, fd, b, m.segment, t.number(3), netip.AddrPortFrom(six, to.Port()))
		if r.errno != 0 {
			return partly(sent, r.errno), nil
		}
		var n [4]byte
		binary.NativeEndian.PutUint32(n[:], uint32(r.val))
		if t.mem.write(at+size-t.mem.mmsgTail(), n[:]) != nil {
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
