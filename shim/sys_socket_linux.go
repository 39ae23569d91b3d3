package shim

import (
	"golang.org/x/sys/unix"
)

// answerSocket answers socket(AF_INET, SOCK_DGRAM) with one of the hidden namespace,
// and socket(AF_INET, SOCK_STREAM) with an AF_INET6 one.
func answerSocket(t *trapped) reply {
	family, typ, proto := t.number(0), t.number(1), t.number(2)
	if family != unix.AF_INET || t.elsewhere(nil) || t.closed() {
		return proceed
	}
	switch typ &^ (unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK) {
	case unix.SOCK_STREAM:
		return handEarly(t, typ, proto)
	case unix.SOCK_DGRAM:
		return handDatagram(t, family, typ, proto)
	}
	return proceed
}

func handDatagram(t *trapped, family, typ, proto int) reply {
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
