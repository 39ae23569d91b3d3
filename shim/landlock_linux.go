package shim

import (
	"math/rand/v2"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A process may restrict itself and its children to some TCP ports (Landlock,
// Linux 6.7). The kernel does not tell others of it, and does not ask again when the
// supervisor connects in the name of such a process. Therefore the supervisor
// finds out what a ruleset permits when a process applies it, and marks the process
// by the hard limit of a resource that Linux does not use any more: children
// inherit it, and nobody without privilege can raise it.
const markResource = unix.RLIMIT_LOCKS

// markOf returns the mark of a process.
func markOf(tid int) (uint64, error) {
	var l unix.Rlimit
	err := unix.Prlimit(tid, markResource, nil, &l)
	return l.Max, err
}

// mark gives it another one.
func mark(tid int, to uint64) error {
	return unix.Prlimit(tid, markResource, &unix.Rlimit{Cur: to, Max: to}, nil)
}

// apply restricts a process to ports beside the limits that it has. Threads of a
// process may restrict themselves at the same time: neither limit may get lost.
func (l *limits) apply(tid int, ports portSet) error {
	l.marking.Lock()
	defer l.marking.Unlock()
	old, err := markOf(tid)
	if err != nil {
		return err
	}
	m, ok := l.restrict(old, ports)
	if !ok {
		return unix.E2BIG
	}
	return mark(tid, m)
}

// connectPorts returns the TCP ports to which a Landlock ruleset lets processes
// connect. limited is false if it is not about that. It takes some 0.1 s where it is.
func connectPorts(ruleset int) (permitted portSet, limited bool, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // until the thread ends, as it stays restricted
		var s int
		if s, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(s)
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return
		}
		if _, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); e != 0 {
			err = e
			return
		}
		// Landlock is asked first. Then this address has no interface, and nothing is sent.
		sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: [16]byte{0xfe, 0x80, 15: 1}}
		permits := func(port uint16) bool {
			sa.Port = ntohs(port)
			_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(s), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
			return e != unix.EACCES
		}
		for range 3 { // a list of ports does not hold three by chance
			limited = limited || !permits(uint16(rand.Uint32()))
		}
		if !limited {
			return
		}
		for port := range 1 << 16 {
			if permits(uint16(port)) {
				permitted.add(uint16(port))
			}
		}
	}()
	<-done
	return permitted, limited, err
}

// answerLandlock notes what landlock_restrict_self(2) leaves to the program. If that
// cannot be noted, the program is refused the restriction.
func answerLandlock(t *trapped) (reply, func() reply) {
	if t.fd(0) < 0 {
		return proceed, nil // it says what is logged
	}
	ruleset, _, err := t.own()
	if err != nil {
		return proceed, nil
	}
	return reply{}, func() reply {
		defer unix.Close(ruleset)
		permitted, limited, err := connectPorts(ruleset)
		if err != nil || !limited {
			return proceed // the kernel says what is wrong with it
		}
		if err := t.limits.apply(t.tid, permitted); err != nil {
			t.say("landlock", "a program cannot restrict itself to TCP ports (Landlock): %v", err)
			return fail(err)
		}
		return proceed
	}
}

// permitted reports whether the process of a thread may connect to a TCP port.
func (l *limits) permitted(tid int, port uint16) bool {
	if !l.given.Load() {
		return true
	}
	m, err := markOf(tid)
	return err == nil && l.permits(m, port)
}

// restricted reports whether the process of a thread has restricted itself to TCP
// ports. Then its own connect with an IPv4 name fails on an AF_INET6 socket, with EINVAL.
func (l *limits) restricted(tid int) bool {
	if !l.given.Load() {
		return false
	}
	m, err := markOf(tid)
	return err != nil || m != l.none
}
