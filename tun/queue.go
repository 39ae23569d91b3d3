package tun

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Queue is one queue of a TUN interface. One goroutine at a time may read and
// one may write; they may be different ones. Close may be called by anybody.
type Queue struct {
	name    string
	file    *os.File // nonblocking, not on the runtime's poller
	conn    syscall.RawConn
	sleeper *sleeper
	polling *polling
	came    arrivals
	closed  atomic.Bool

	interrupted atomic.Bool // by Interrupt

	reading, writing transfer
}

// transfer is the read(2) or write(2) that one goroutine has under way. It is
// kept so that no call allocates.
type transfer struct {
	number uintptr // of the system call
	frame  []byte
	n      int
	errno  syscall.Errno
	try    func(fd uintptr) (done bool)
}

// newQueue returns the queue of the descriptor fd, which is not nonblocking yet. It
// owns fd, and has closed it if there is an error.
func newQueue(name string, fd int, p *polling) (*Queue, error) {
	// A descriptor that is nonblocking here would be put on the poller.
	file := os.NewFile(uintptr(fd), clonePath)
	conn, err := file.SyscallConn()
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	var s *sleeper
	if err == nil {
		s, err = newSleeper(fd)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	q := &Queue{name: name, file: file, conn: conn, sleeper: s, polling: p, came: newArrivals()}
	for number, t := range map[uintptr]*transfer{unix.SYS_READ: &q.reading, unix.SYS_WRITE: &q.writing} {
		t.number, t.try = number, t.call
	}
	return q, nil
}

// call makes the system call. It never sleeps, so the scheduler is not told of it,
// which would cost about as much as the call.
func (t *transfer) call(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(t.number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.frame))), uintptr(len(t.frame)))
		if errno != unix.EINTR {
			t.n, t.errno = int(n), errno
			return true
		}
	}
}

// Read waits for one packet and takes it with one read(2): the packet, unsplit,
// is buf[off:off+n], and buf[off-VnetHeaderLen:off] is overwritten with the
// virtio-net header that h is decoded from. So off must be at least
// VnetHeaderLen; buf should hold 65,535 bytes from off on, for the kernel cuts
// off what does not fit.
//
// An error that wraps os.ErrClosed is final: the queue was closed or the
// interface was removed. Any other error has cost one packet at most.
func (q *Queue) Read(buf []byte, off int) (n int, h VnetHeader, err error) {
	return q.ReadIdle(buf, off, nil)
}

// ReadIdle is Read that calls idle, if it is not nil, before it waits for a
// packet. idle may write to the queue. It must not read, nor use buf.
func (q *Queue) ReadIdle(buf []byte, off int, idle func()) (n int, h VnetHeader, err error) {
	t := &q.reading
	t.frame = buf[off-VnetHeaderLen:]
	err = q.read(idle)
	t.frame = nil
	if err == nil && t.errno != 0 {
		err = t.errno
	}
	if err != nil {
		return 0, VnetHeader{}, q.readError(err)
	}
	q.came.read()
	n = t.n
	if n < VnetHeaderLen {
		return 0, VnetHeader{}, fmt.Errorf("read from TUN interface %q: %d bytes hold no virtio-net header", q.name, n)
	}
	return n - VnetHeaderLen, DecodeVnetHeader(buf[off-VnetHeaderLen:]), nil
}

// read reads until there is a packet. It calls idle once before it waits for one.
func (q *Queue) read(idle func()) error {
	if q.interrupted.Load() {
		return os.ErrDeadlineExceeded
	}
	found, err := q.tryRead()
	if found || err != nil {
		return err
	}
	if idle != nil {
		idle()
		// Packets may have come meanwhile.
		if found, err = q.tryRead(); found || err != nil {
			return err
		}
	}
	began := time.Now()
	if limit := q.came.empty(); limit > 0 && q.polling.enter() {
		found, err = q.poll(began, limit)
		q.polling.leave()
		q.came.polled(time.Since(began))
	}
	for !found && err == nil {
		if err = q.sleeper.sleep(); err == nil {
			found, err = q.tryRead()
		}
	}
	q.came.arrived(time.Since(began))
	return err
}

// tryRead makes the system call, and reports false if there is no packet.
func (q *Queue) tryRead() (found bool, err error) {
	err = q.conn.Read(q.reading.try)
	return q.reading.errno != unix.EAGAIN, err
}

// poll reads again and again until there is a packet, or the time has passed.
func (q *Queue) poll(began time.Time, limit time.Duration) (found bool, err error) {
	for {
		if found, err = q.tryRead(); found || err != nil || time.Since(began) >= limit {
			return found, err
		}
		// Another thread may be waiting for this processor.
		syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

// Write gives the packet buf[off:] to the kernel as one that the interface has
// received, with one write(2). It overwrites buf[off-VnetHeaderLen:off] with
// h, so off must be at least VnetHeaderLen.
//
// An error means that this packet was lost: EIO while the interface is down,
// EINVAL if h does not fit the packet, ENOBUFS or ENOMEM. It wraps os.ErrClosed
// if there will be no other. Write does not wait: the socket buffer of a TUN is
// unlimited.
func (q *Queue) Write(buf []byte, off int, h VnetHeader) error {
	frame := buf[off-VnetHeaderLen:]
	h.Encode(frame)
	t := &q.writing
	t.frame = frame
	err := q.conn.Write(t.try)
	t.frame = nil
	switch {
	case err != nil:
		return q.closedError(err)
	case t.errno == unix.EBADFD:
		return q.removedError()
	case t.errno != 0:
		return fmt.Errorf("write to TUN interface %q: %w", q.name, t.errno)
	}
	return nil
}

// closedError returns os.ErrClosed in the place of err, the error of a raw
// connection, if it comes from Close. The poller's own error cannot be compared.
func (q *Queue) closedError(err error) error {
	if q.closed.Load() {
		return os.ErrClosed
	}
	return err
}

// Empty reports whether no packet waits to be read. It is false where that
// cannot be found out.
func (q *Queue) Empty() bool {
	empty := false
	err := q.conn.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		empty = n == 0 && err == nil
	})
	return err == nil && empty
}

// Close closes the queue. A reader that is waiting returns an error that wraps
// os.ErrClosed. To close it again is no error.
func (q *Queue) Close() error {
	if q.closed.Swap(true) {
		return nil
	}
	return errors.Join(q.sleeper.Close(), q.file.Close())
}

// readError words an error of Read. That the interface was removed cannot be
// told from the errno: the next read(2) of a removed TUN fails with EBADFD, but
// a goroutine that was waiting for a packet gets the poller's private error,
// because poll(2) reports nothing but POLLERR.
func (q *Queue) readError(err error) error {
	err = q.closedError(err)
	if !errors.Is(err, os.ErrClosed) && q.removed() {
		return q.removedError()
	}
	return fmt.Errorf("read from TUN interface %q: %w", q.name, err)
}

func (q *Queue) removedError() error {
	return fmt.Errorf("TUN interface %q was removed: %w", q.name, os.ErrClosed)
}

// removed reports whether the descriptor has lost its interface.
func (q *Queue) removed() bool {
	// TUNGETIFF fills in the name; none is looked up.
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return false
	}
	var errno error
	err = q.conn.Control(func(fd uintptr) { errno = unix.IoctlIfreq(int(fd), unix.TUNGETIFF, ifr) })
	return err == nil && errno == unix.EBADFD
}
