package shim

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// swap puts the socket fresh in the place of old, which the program p has under
// number and perhaps elsewhere, with its epoll registrations. Without
// flagWaitKillableRecv a signal can interrupt the program between two of several
// descriptors: the restarted call then finds its own replaced, and the others
// keep the old socket.
func swap(t *trapped, p *process, number, old, fresh int, cookie uint64) error {
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
func toHost(t *trapped, p *process, old int, k kind) error {
	return replaceSocket(t, p, old, k, func(flags int) (int, error) {
		return unix.Socket(k.family, k.typ|unix.SOCK_CLOEXEC|flags, k.proto)
	})
}

// toHidden replaces a socket of the host's by one of the hidden namespace.
func toHidden(t *trapped, p *process, old int, k kind) error {
	return replaceSocket(t, p, old, k, func(flags int) (int, error) {
		s, err := t.hidden.socket(k.family, k.proto)
		if err == nil && flags != 0 {
			err = unix.SetNonblock(s, true)
		}
		return s, err
	})
}

func replaceSocket(t *trapped, p *process, old int, k kind, open func(flags int) (int, error)) error {
	status, err := fileStatus(old)
	if err != nil {
		return err
	}
	s, err := open(status & unix.O_NONBLOCK)
	if err != nil {
		t.lacks(err)
		return err
	}
	defer unix.Close(s)
	copyOptions(old, s, k.typ, k.family == unix.AF_INET)
	if status&unix.O_ASYNC != 0 {
		setFileStatus(s, status)
	}
	return swap(t, p, t.fd(0), old, s, k.cookie)
}
