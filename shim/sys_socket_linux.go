package shim

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// socket answers socket(AF_INET, SOCK_DGRAM) with one of the hidden namespace,
// and socket(AF_INET, SOCK_STREAM) with an AF_INET6 one.
func (t *trapped) socket() reply {
	family, typ, proto := t.number(0), t.number(1), t.number(2)
	if family != unix.AF_INET || t.elsewhere(nil) {
		return proceed
	}
	switch typ &^ (unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK) {
	case unix.SOCK_STREAM:
		return t.early(typ, proto)
	case unix.SOCK_DGRAM:
		return t.datagram(family, typ, proto)
	}
	return proceed
}

// early hands out a TCP socket that can be connected to IPv6 as it is, so that
// nothing need be carried over and all its descriptors agree. Where it turns out
// that it is to be bound, or connected without NAT64, it becomes AF_INET: see
// toIPv4.
func (t *trapped) early(typ, proto int) reply {
	if proto != 0 && proto != unix.IPPROTO_TCP || t.late.Load() {
		return proceed
	}
	s, err := unix.Socket(unix.AF_INET6, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return proceed
	}
	defer unix.Close(s)
	cookie, err := cookieOf(s)
	if err != nil {
		return proceed
	}
	t.sockets.set(cookie, replaced{early: true})
	switch err := t.listener.hand(t.id, s, typ&unix.SOCK_CLOEXEC != 0); err {
	case nil, unix.ENOENT: // answered, or interrupted
		return reply{given: true}
	case unix.EINVAL:
		t.late.Store(true)
		t.sockets.remove(cookie)
		return proceed
	default:
		return fail(err) // EMFILE
	}
}

// toIPv4 replaces an early socket by an AF_INET one.
func (t *trapped) toIPv4(p *process, old int, cookie uint64) error {
	err := t.replace(p, old, kind{family: unix.AF_INET, typ: unix.SOCK_STREAM, cookie: cookie}, func(flags int) (int, error) {
		return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	})
	if err == nil {
		t.sockets.remove(cookie)
	}
	return err
}

// listen makes an early socket AF_INET.
func (t *trapped) listen() reply {
	t.backToHost()
	return proceed
}

func (t *trapped) datagram(family, typ, proto int) reply {
	if t.hidden == nil || proto != 0 && proto != unix.IPPROTO_UDP && proto != unix.IPPROTO_ICMP {
		return proceed
	}
	s, err := t.hidden.socket(family, proto)
	if err != nil {
		if !t.lacks(err) && err != unix.EPROTONOSUPPORT {
			t.say("hidden", "datagrams are not translated any more: %v", err)
		}
		return proceed
	}
	defer unix.Close(s)
	if typ&unix.SOCK_NONBLOCK != 0 {
		if err := unix.SetNonblock(s, true); err != nil {
			return proceed
		}
	}
	switch err := t.listener.hand(t.id, s, typ&unix.SOCK_CLOEXEC != 0); err {
	case nil, unix.ENOENT: // answered, or interrupted
		return reply{given: true}
	default:
		return fail(err) // EMFILE
	}
}

// bind puts a socket of the host's back where a port or an address of this
// host is named: it is to be reached there.
func (t *trapped) bind() reply {
	size := t.args[2] & 0xffffffff
	if size < 8 || size > 1<<16 {
		return proceed
	}
	var b [8]byte // family, port, IPv4 address
	if readMemory(t.tid, t.args[1], b[:]) != nil {
		return proceed
	}
	any := [6]byte(b[2:]) == [6]byte{}
	switch family := binary.NativeEndian.Uint16(b[:]); {
	case family == unix.AF_INET6 && (b[2] != 0 || b[3] != 0):
		if fd, _, err := t.own(); err == nil {
			if cookie, err := cookieOf(fd); err == nil {
				t.served.add(cookie)
			}
			unix.Close(fd)
		}
	case family == unix.AF_INET && !any:
		t.backToHost()
	case family == unix.AF_INET || family == unix.AF_UNSPEC:
		t.backToIPv4()
	}
	return proceed
}

// backToHost replaces the socket in argument 0 if it is of the hidden
// namespace, or early.
func (t *trapped) backToHost() {
	old, p, err := t.own()
	if err != nil {
		return
	}
	defer unix.Close(old)
	k, err := t.inspect(old)
	if err != nil {
		return
	}
	if k.hidden {
		t.toHost(p, old, k)
	} else if r, ok := t.sockets.get(k.cookie); ok && r.early {
		t.toIPv4(p, old, k.cookie)
	}
}

// backToIPv4 replaces the socket in argument 0 if it is early.
func (t *trapped) backToIPv4() {
	old, p, err := t.own()
	if err != nil {
		return
	}
	defer unix.Close(old)
	if cookie, err := cookieOf(old); err == nil {
		if r, ok := t.sockets.get(cookie); ok && r.early {
			t.toIPv4(p, old, cookie)
		}
	}
}
