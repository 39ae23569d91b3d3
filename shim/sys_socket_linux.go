package shim

import "golang.org/x/sys/unix"

// socket answers socket(AF_INET, SOCK_DGRAM) with one of the hidden namespace.
func (t *trapped) socket() reply {
	family, typ, proto := t.number(0), t.number(1), t.number(2)
	if t.hidden == nil || family != unix.AF_INET || typ&sockTypeMask != unix.SOCK_DGRAM {
		return proceed
	}
	if proto != 0 && proto != unix.IPPROTO_UDP && proto != unix.IPPROTO_ICMP || t.elsewhere() {
		return proceed
	}
	s, err := t.hidden.socket(family, proto)
	if err != nil {
		if err != unix.EPROTONOSUPPORT {
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
	if t.hidden == nil {
		return proceed
	}
	to, ok := t.named(1, 2)
	if !ok || to.Port() == 0 && to.Addr().IsUnspecified() {
		return proceed
	}
	t.backToHost()
	return proceed
}

// backToHost replaces the socket in argument 0 if it is of the hidden namespace.
func (t *trapped) backToHost() {
	old, p, err := t.own()
	if err != nil {
		return
	}
	defer unix.Close(old)
	if k, err := t.inspect(old); err == nil && k.hidden {
		t.toHost(p, old, k)
	}
}
