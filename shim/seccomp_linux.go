package shim

import (
	"fmt"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Actions of a seccomp filter (include/uapi/linux/seccomp.h).
const (
	retAllow  = 0x7fff0000
	retNotify = 0x7fc00000
	retErrno  = 0x00050000
)

// Flags of seccomp(SECCOMP_SET_MODE_FILTER), ioctl requests on the listener,
// and flags of its structures.
const (
	seccompSetModeFilter = 1

	flagNewListener      = 1 << 3 // Linux 5.0
	flagWaitKillableRecv = 1 << 5 // Linux 5.19

	ioctlReceive  = 0xc0502100
	ioctlSend     = 0xc0182101
	ioctlIDValid  = 0x40082102
	ioctlAddFD    = 0x40182103 // Linux 5.9
	ioctlSetFlags = 0x40082104 // Linux 6.6

	responseContinue = 1      // Linux 5.5
	addFDSet         = 1      // under a given number
	addFDSend        = 1 << 1 // the number is the answer; Linux 5.14
	syncWakeUp       = 1
)

// notification is struct seccomp_notif.
type notification struct {
	id    uint64
	pid   uint32 // a thread, as our PID namespace numbers it; 0 if that has none
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	errno int32 // negative
	flags uint32
}

// addFD is struct seccomp_notif_addfd.
type addFD struct {
	id       uint64
	flags    uint32
	src, dst uint32
	newFlags uint32
}

// listener is the descriptor at which the kernel tells of system calls.
type listener int

// ioctl makes a request that does not block, without telling Go's scheduler.
func (l listener) ioctl(request uintptr, p unsafe.Pointer) (int, error) {
	for {
		r, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(l), request, uintptr(p))
		switch e {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return 0, e
		}
	}
}

// receive waits for a system call. ENOENT: the thread was killed meanwhile.
func (l listener) receive(n *notification) error {
	*n = notification{}
	for {
		switch _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(l), ioctlReceive, uintptr(unsafe.Pointer(n))); e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

// valid reports whether the thread still waits for the answer to id.
func (l listener) valid(id uint64) bool {
	_, err := l.ioctl(ioctlIDValid, unsafe.Pointer(&id))
	return err == nil
}

func (l listener) answer(r response) error {
	_, _, e := unix.RawSyscall(unix.SYS_IOCTL, uintptr(l), ioctlSend, uintptr(unsafe.Pointer(&r)))
	if e != 0 {
		return e
	}
	return nil
}

// put gives the thread a duplicate of fd under number, closing what it had there.
func (l listener) put(id uint64, fd, number int, closeOnExec bool) error {
	a := addFD{id: id, flags: addFDSet, src: uint32(fd), dst: uint32(number)}
	if closeOnExec {
		a.newFlags = unix.O_CLOEXEC
	}
	return l.addFD(&a)
}

// hand gives the thread a duplicate of fd under a free number, which becomes
// the result of its system call.
func (l listener) hand(id uint64, fd int, closeOnExec bool) error {
	a := addFD{id: id, flags: addFDSend, src: uint32(fd)}
	if closeOnExec {
		a.newFlags = unix.O_CLOEXEC
	}
	return l.addFD(&a)
}

// addFD waits until the thread has taken the descriptor.
func (l listener) addFD(a *addFD) error {
	for {
		switch _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(l), ioctlAddFD, uintptr(unsafe.Pointer(a))); e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

// wakeSynchronously makes the kernel run the program and us on one CPU in
// turn, which halves the cost of a notification. Linux 6.6 or nothing.
func (l listener) wakeSynchronously() {
	unix.Syscall(unix.SYS_IOCTL, uintptr(l), ioctlSetFlags, syncWakeUp)
}

// hungUp waits until no process is left that the filter is about.
func (l listener) hungUp() {
	for {
		p := []unix.PollFd{{Fd: int32(l)}}
		if _, err := unix.Poll(p, -1); err != nil && err != unix.EINTR {
			return
		}
		if p[0].Revents != 0 {
			return
		}
	}
}

// install sets no_new_privs and the filter on the calling thread, and on what
// it starts from now on.
func install(program []bpf.RawInstruction, flags uintptr) (listener, error) {
	filter := make([]unix.SockFilter, len(program))
	for i, r := range program {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("no_new_privs: %w", err)
	}
	p := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, e := unix.Syscall(unix.SYS_SECCOMP, seccompSetModeFilter, flags|flagNewListener, uintptr(unsafe.Pointer(&p)))
	if e != 0 {
		return -1, e
	}
	return listener(fd), nil
}

// blockSignals keeps signals from the calling thread, which must not be used
// for anything else afterwards.
func blockSignals() {
	all := ^uint64(0)
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&all)), 0, unsafe.Sizeof(all), 0, 0)
}
