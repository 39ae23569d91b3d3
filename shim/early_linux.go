package shim

import (
	"golang.org/x/sys/unix"
)

// handEarly hands out a TCP socket that can be connected to IPv6 as it is, so that
// nothing need be carried over and all its descriptors agree. Where it turns out
// that it is to be bound, or connected without NAT64, it becomes AF_INET: see
// toIPv4.
func handEarly(t *trapped, typ, proto int) reply {
	if proto != 0 && proto != unix.IPPROTO_TCP || t.late.Load() {
		return proceed
	}
	open := func() (int, error) { return unix.Socket(unix.AF_INET6, typ|unix.SOCK_CLOEXEC, proto) }
	s, err := t.openFor(open)
	if exhausted(err) {
		t.processes.release()
		s, err = t.openFor(open)
	}
	if err != nil {
		t.runOut(err)
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
		if !t.late.Swap(true) {
			t.sayLate()
		}
		t.sockets.remove(cookie)
		return proceed
	default:
		return fail(err) // EMFILE
	}
}

// toIPv4 replaces an early socket by an AF_INET one.
func toIPv4(t *trapped, p *process, old int, cookie uint64) error {
	err := replaceSocket(t, p, old, kind{family: unix.AF_INET, typ: unix.SOCK_STREAM, cookie: cookie}, func(flags int) (int, error) {
		return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	})
	if err == nil {
		t.sockets.remove(cookie)
	}
	return err
}

// backToHost replaces the socket in argument 0 if it is of the hidden
// namespace, or early.
func backToHost(t *trapped) {
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
		toHost(t, p, old, k)
	} else if r, ok := t.sockets.get(k.cookie); ok && r.early {
		toIPv4(t, p, old, k.cookie)
	}
}

// backToIPv4 replaces the socket in argument 0 if it is early.
func backToIPv4(t *trapped) {
	old, p, err := t.own()
	if err != nil {
		return
	}
	defer unix.Close(old)
	if cookie, err := cookieOf(old); err == nil {
		if r, ok := t.sockets.get(cookie); ok && r.early {
			toIPv4(t, p, old, cookie)
		}
	}
}
