package shim

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// registration is that of a socket with an epoll instance of the program.
// Replacing the socket under its number would end it.
type registration struct {
	epoll  int // descriptor number, the program's
	number int // of the socket, the program's
	events uint32
	data   uint64
}

// registrations finds those of the descriptor fd.
func registrations(p *process, fd int) []registration {
	g := p.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stale {
		g.epolls = descriptorsTo(p.tid, "anon_inode:[eventpoll]")
		g.stale = false
	}
	var all []registration
	g.epolls = slices.DeleteFunc(g.epolls, func(ep int) bool {
		switch registered(p.tid, ep, fd) {
		case unix.ENOENT: // not this socket
			return false
		case unix.EBADF, unix.EINVAL: // closed meanwhile, or reused
			g.stale = true
			return true
		}
		all = append(all, readRegistrations(p.tid, ep, fd)...)
		return false
	})
	return all
}

const kcmpEpollTFD = 7

// registered asks the kernel whether fd is registered with ep: 0, ENOENT, or
// something else if it cannot tell.
func registered(tid, ep, fd int) unix.Errno {
	slot := struct{ efd, tfd, toff uint32 }{uint32(ep), uint32(fd), 0}
	_, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(tid), uintptr(tid), kcmpEpollTFD, uintptr(fd), uintptr(unsafe.Pointer(&slot)), 0)
	return e
}

// readRegistrations reads what an epoll instance knows of fd.
func readRegistrations(tid, ep, fd int) (all []registration) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/fdinfo/%d", tid, ep))
	if err != nil {
		return nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		r := registration{epoll: ep, number: fd}
		var tfd int
		if n, _ := fmt.Sscanf(s.Text(), "tfd: %d events: %x data: %x", &tfd, &r.events, &r.data); n == 3 && tfd == fd {
			all = append(all, r)
		}
	}
	return all
}

// carryOver moves registrations from the socket old to fresh. An epoll instance
// knows a descriptor by number and file, so that the calls must be made under
// the program's numbers: by a thread with a descriptor table of its own, which
// ends afterwards.
func carryOver(ps *processes, tid int, all []registration, old, fresh int) error {
	if len(all) == 0 {
		return nil
	}
	instances := make([]int, len(all))
	for i, r := range all {
		fd, _, err := ps.descriptor(tid, r.epoll)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		instances[i] = fd
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // until the thread ends
		done <- carryOverHere(all, instances, old, fresh)
	}()
	return <-done
}

func carryOverHere(all []registration, instances []int, old, fresh int) error {
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		return err
	}
	highest := 0
	for _, r := range all {
		highest = max(highest, r.number)
	}
	fds := append([]int{old, fresh}, instances...)
	for i := range fds {
		fd, err := unix.FcntlInt(uintptr(fds[i]), unix.F_DUPFD_CLOEXEC, highest+1)
		if err != nil {
			return err
		}
		fds[i] = fd
	}
	old, fresh = fds[0], fds[1]
	for i, r := range all {
		ep := fds[2+i]
		if err := unix.Dup3(old, r.number, unix.O_CLOEXEC); err != nil {
			return err
		}
		unix.EpollCtl(ep, unix.EPOLL_CTL_DEL, r.number, nil)
		if err := unix.Dup3(fresh, r.number, unix.O_CLOEXEC); err != nil {
			return err
		}
		ev := unix.EpollEvent{Events: r.events, Fd: int32(r.data), Pad: int32(r.data >> 32)}
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, r.number, &ev); err != nil && err != unix.EEXIST {
			return err
		}
	}
	return nil
}
