package tun

import (
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// polling lets at most limit queues of a device poll at a time: the programs that send
// and receive need processors too.
type polling struct {
	limit int32
	now   atomic.Int32
}

// newPolling leaves half of the processors, and the only one.
func newPolling() *polling { return &polling{limit: int32(runtime.NumCPU() / 2)} }

// enter reports whether one more queue may poll. If so, it must call leave.
func (p *polling) enter() bool {
	if p.now.Add(1) <= p.limit {
		return true
	}
	p.now.Add(-1)
	return false
}

func (p *polling) leave() { p.now.Add(-1) }

// sleeper lets a goroutine wait for a packet in the poller of the runtime.
//
// A descriptor that is in that poller itself wakes a thread for each packet, also
// while the reader is awake. Here it is in an epoll instance of its own, which
// reports one event after it was armed and is what the poller watches.
type sleeper struct {
	file *os.File // the epoll instance
	conn syscall.RawConn
	tun  uintptr // descriptor of the queue

	armed  bool
	events [1]unix.EpollEvent
	wait   func(epoll uintptr) (ready bool)
	err    error
}

func newSleeper(tun int) (*sleeper, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	event := unix.EpollEvent{Fd: int32(tun)} // none, until it is armed
	err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, tun, &event)
	if err == nil {
		err = unix.SetNonblock(fd, true) // or NewFile keeps it from the poller
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	s := &sleeper{file: os.NewFile(uintptr(fd), "epoll"), tun: uintptr(tun)}
	if s.conn, err = s.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	s.wait = s.step
	return s, nil
}

// sleep returns when the queue can be read, or reports an error when it is read. An
// error of its own is final.
func (s *sleeper) sleep() error {
	s.armed, s.err = false, nil
	if err := s.conn.Read(s.wait); err != nil {
		return err
	}
	return s.err
}

// step arms the epoll instance, and when it is called again takes the event.
func (s *sleeper) step(epoll uintptr) bool {
	if !s.armed {
		s.armed = true
		s.events[0] = unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(s.tun)}
		_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, epoll, unix.EPOLL_CTL_MOD, s.tun, uintptr(unsafe.Pointer(&s.events[0])), 0, 0)
		if errno != 0 {
			s.err = errno
			return true
		}
		return false
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, epoll, uintptr(unsafe.Pointer(&s.events[0])), 1, 0, 0, 0)
	return n > 0 || errno != 0 && errno != unix.EINTR
}

func (s *sleeper) Close() error { return s.file.Close() }
