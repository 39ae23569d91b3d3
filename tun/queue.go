package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Queue is one queue of a TUN interface. One goroutine at a time may read and
// one may write; they may be different ones. Close may be called by anybody.
type Queue struct {
	name string
	file *os.File // nonblocking, on the runtime's poller
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
	n, err = q.file.Read(buf[off-VnetHeaderLen:])
	if err != nil {
		return 0, VnetHeader{}, q.readError(err)
	}
	if n < VnetHeaderLen {
		return 0, VnetHeader{}, fmt.Errorf("read from TUN interface %q: %d bytes hold no virtio-net header", q.name, n)
	}
	return n - VnetHeaderLen, DecodeVnetHeader(buf[off-VnetHeaderLen:]), nil
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
	_, err := q.file.Write(frame)
	if errors.Is(err, unix.EBADFD) {
		return q.removedError()
	}
	return err
}

// Empty reports whether no packet waits to be read. It is false where that
// cannot be found out.
func (q *Queue) Empty() bool {
	conn, err := q.file.SyscallConn()
	if err != nil {
		return false
	}
	empty := false
	err = conn.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		empty = n == 0 && err == nil
	})
	return err == nil && empty
}

// Close closes the queue. A reader that is waiting returns an error that wraps
// os.ErrClosed. To close it again is no error.
func (q *Queue) Close() error {
	if err := q.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// readError words an error of Read. That the interface was removed cannot be
// told from the errno: the next read(2) of a removed TUN fails with EBADFD, but
// a goroutine that was waiting for a packet gets the poller's private error,
// because poll(2) reports nothing but POLLERR.
func (q *Queue) readError(err error) error {
	if !errors.Is(err, os.ErrClosed) && q.removed() {
		return q.removedError()
	}
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return fmt.Errorf("read from TUN interface %q: %w", q.name, err)
}

func (q *Queue) removedError() error {
	return fmt.Errorf("TUN interface %q was removed: %w", q.name, os.ErrClosed)
}

// removed reports whether the descriptor has lost its interface.
func (q *Queue) removed() bool {
	conn, err := q.file.SyscallConn()
	if err != nil {
		return false
	}
	// TUNGETIFF fills in the name; none is looked up.
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return false
	}
	var errno error
	err = conn.Control(func(fd uintptr) { errno = unix.IoctlIfreq(int(fd), unix.TUNGETIFF, ifr) })
	return err == nil && errno == unix.EBADFD
}
