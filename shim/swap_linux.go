package shim

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// swap puts the socket fresh in the place of old, which the program p has under
// number and perhaps elsewhere, with its epoll registrations.
func (t *trapped) swap(p *process, number, old, fresh int, cookie uint64) error {
	numbers := []int{number}
	if t.copied.contains(cookie) {
		var st unix.Stat_t
		if unix.Fstat(old, &st) == nil {
			numbers = descriptorsTo(t.tid, fmt.Sprintf("socket:[%d]", st.Ino))
		}
	}
	var regs []registration
	for _, n := range numbers {
		regs = append(regs, registrations(p, n)...)
	}
	for _, n := range numbers {
		if err := t.listener.put(t.id, fresh, n, closesOnExec(t.tid, n)); err != nil {
			return err
		}
	}
	if err := carryOver(&t.processes, t.tid, regs, old, fresh); err != nil {
		t.say("epoll", "cannot carry an epoll registration over: %v", err)
	}
	return nil
}

// toHost replaces a socket of the hidden namespace by one of the host's.
func (t *trapped) toHost(p *process, old int, k kind) error {
	return t.replace(p, old, k, func(flags int) (int, error) {
		return unix.Socket(k.family, k.typ|unix.SOCK_CLOEXEC|flags, k.proto)
	})
}

// toHidden replaces a socket of the host's by one of the hidden namespace.
func (t *trapped) toHidden(p *process, old int, k kind) error {
	return t.replace(p, old, k, func(flags int) (int, error) {
		s, err := t.hidden.socket(k.family, k.proto)
		if err == nil && flags != 0 {
			err = unix.SetNonblock(s, true)
		}
		return s, err
	})
}

func (t *trapped) replace(p *process, old int, k kind, open func(flags int) (int, error)) error {
	status, err := unix.FcntlInt(uintptr(old), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	s, err := open(status & unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	copySame(old, s, k.typ)
	if status&unix.O_ASYNC != 0 {
		unix.FcntlInt(uintptr(s), unix.F_SETFL, status)
	}
	return t.swap(p, t.fd(0), old, s, k.cookie)
}

// copySame is copyOptions between sockets of one family.
func copySame(from, to, typ int) {
	fresh := defaults()[typ]
	for _, o := range intOptions[typ] {
		v, err := unix.GetsockoptInt(from, o.level, o.opt)
		if was, known := fresh[o]; err != nil || !known || v == was {
			continue
		}
		if o.opt == unix.SO_BINDTOIFINDEX && o.level == unix.SOL_SOCKET && v == 0 {
			continue
		}
		if o.halve {
			v /= 2
		}
		unix.SetsockoptInt(to, o.level, o.opt, v)
	}
	for _, opt := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if v, err := unix.GetsockoptTimeval(from, unix.SOL_SOCKET, opt); err == nil && (v.Sec != 0 || v.Usec != 0) {
			unix.SetsockoptTimeval(to, unix.SOL_SOCKET, opt, v)
		}
	}
}
