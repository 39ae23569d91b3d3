package shim

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// swap puts the socket fresh in the place of old, which the program p has under
// number and perhaps under others, with its epoll registrations. cookie is old's.
//
// A signal can end the program's call at any time, unless the filter has
// flagWaitKillableRecv, and with it the permission to replace descriptors. On an
// error nothing has happened, and the restarted call finds the old socket. Once
// number has been replaced there is no error any more: what is missing is done
// in the process's next call (see finishSwaps).
func swap(t *trapped, p *process, number, old, fresh int, cookie uint64) error {
	now, err := cookieOf(fresh)
	if err != nil {
		return err
	}
	if !t.copied.mayContain(cookie) {
		return replaceAt(t, p, number, old, fresh)
	}
	var st unix.Stat_t
	if err := unix.Fstat(old, &st); err != nil {
		return err
	}
	t.copied.add(now)
	// It is noted beforehand: another thread of ours may get the restarted call
	// before this one knows that it has been interrupted.
	s := &unfinishedSwap{tgid: p.group.tgid, number: number, fresh: now, old: cookie, inode: st.Ino, at: time.Now()}
	others := socketNumbers(t.tid, s.inode)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.unfinished.add(s)
	if err := replaceAt(t, p, number, old, fresh); err != nil {
		t.unfinished.remove(s)
		return err
	}
	for _, n := range others {
		if n == number {
			continue
		}
		if replaceAt(t, p, n, old, fresh) != nil {
			return nil
		}
	}
	t.unfinished.remove(s)
	return nil
}

// replaceAt puts fresh under one number of the program's, where it has old.
func replaceAt(t *trapped, p *process, number, old, fresh int) error {
	regs := registrations(p, number)
	if err := t.listener.put(t.id, fresh, number, closesOnExec(t.tid, number)); err != nil {
		return err
	}
	if err := carryOver(&t.processes, t.tid, regs, old, fresh); err != nil {
		t.say("epoll", "cannot carry an epoll registration over: %v", err)
	}
	return nil
}

// socketNumbers returns the descriptors of a thread that are the socket with this inode.
func socketNumbers(tid int, inode uint64) []int {
	return descriptorsTo(tid, fmt.Sprintf("socket:[%d]", inode))
}

// toHost replaces a socket of the hidden namespace by one of the host's.
func toHost(t *trapped, p *process, old int, k kind) error {
	return replaceSocket(t, p, old, k, func(flags int) (int, error) {
		return unix.Socket(k.family, k.typ|unix.SOCK_CLOEXEC|flags, k.proto)
	})
}

// toHidden replaces a socket of the host's by one of the hidden namespace.
func toHidden(t *trapped, p *process, old int, k kind) error {
	return toHiddenPort(t, p, old, k, 0)
}

// toHiddenPort is toHidden for a socket that keeps a port there, unless it is 0.
func toHiddenPort(t *trapped, p *process, old int, k kind, port uint16) error {
	return replaceSocket(t, p, old, k, func(flags int) (int, error) {
		s, err := t.hidden.socket(k.family, k.proto)
		if err == nil && flags != 0 {
			err = unix.SetNonblock(s, true)
		}
		if err == nil && port != 0 {
			if err = unix.Bind(s, sockaddr(netip.AddrPortFrom(netip.IPv4Unspecified(), port))); err != nil {
				unix.Close(s)
			}
		}
		return s, err
	})
}

func replaceSocket(t *trapped, p *process, old int, k kind, open func(flags int) (int, error)) error {
	status, err := fileStatus(old)
	if err != nil {
		return err
	}
	s, err := t.openFor(func() (int, error) { return open(status & unix.O_NONBLOCK) })
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
