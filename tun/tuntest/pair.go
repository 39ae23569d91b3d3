// Package tuntest is a TUN queue in memory, for tests that have no rights to
// make a real one: a test, or a gVisor network stack, takes the place of the
// kernel. It carries whole super-packets with their virtio-net headers.
package tuntest

import (
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"tnat64d/tun"
)

// Queue is one end of a pair. Its methods are those of tun.Queue, under the
// same rules, except that several goroutines may use each at once.
type Queue struct {
	in, out *ring
	closed  chan struct{} // by this end
	peer    chan struct{} // closed by the other end
	once    sync.Once

	interrupted chan struct{} // by Interrupt
	interrupt   sync.Once
}

// Pair returns two ends: what is written to one is read from the other. Each
// direction holds up to depth packets, which must be at least 1.
func Pair(depth int) (a, b *Queue) {
	ab, ba := newRing(depth), newRing(depth)
	aClosed, bClosed := make(chan struct{}), make(chan struct{})
	a = &Queue{in: ba, out: ab, closed: aClosed, peer: bClosed, interrupted: make(chan struct{})}
	b = &Queue{in: ab, out: ba, closed: bClosed, peer: aClosed, interrupted: make(chan struct{})}
	return a, b
}

// Read waits for one packet and copies it to buf[off:off+n], its virtio-net
// header to buf[off-tun.VnetHeaderLen:off]. After the other end was closed it
// returns what is left, then an error that wraps os.ErrClosed, as it does at
// once after Close. A packet that does not fit is lost with io.ErrShortBuffer.
func (q *Queue) Read(buf []byte, off int) (n int, h tun.VnetHeader, err error) {
	return q.ReadIdle(buf, off, nil)
}

// ReadIdle is Read that calls idle, if it is not nil, before it waits.
func (q *Queue) ReadIdle(buf []byte, off int, idle func()) (n int, h tun.VnetHeader, err error) {
	select {
	case <-q.closed:
		return 0, tun.VnetHeader{}, fmt.Errorf("read: %w", os.ErrClosed)
	case <-q.interrupted:
		return 0, tun.VnetHeader{}, fmt.Errorf("read: %w", os.ErrDeadlineExceeded)
	default:
	}
	if idle != nil && len(q.in.full) == 0 {
		idle()
	}
	var s *slot
	select {
	case s = <-q.in.full:
	case <-q.closed:
		return 0, tun.VnetHeader{}, fmt.Errorf("read: %w", os.ErrClosed)
	case <-q.interrupted:
		return 0, tun.VnetHeader{}, fmt.Errorf("read: %w", os.ErrDeadlineExceeded)
	case <-q.peer:
		select {
		case s = <-q.in.full:
		default:
			return 0, tun.VnetHeader{}, fmt.Errorf("read: the other end is gone: %w", os.ErrClosed)
		}
	}
	n, h = copy(buf[off:], s.packet), s.header
	if n < len(s.packet) {
		n, h, err = 0, tun.VnetHeader{}, io.ErrShortBuffer
	} else {
		h.Encode(buf[off-tun.VnetHeaderLen:])
	}
	q.in.free <- s
	return n, h, err
}

// Write copies the packet buf[off:] for the other end to read, and overwrites
// buf[off-tun.VnetHeaderLen:off] as the real one does. It never waits: if the
// other end does not keep up the packet is lost with syscall.ENOBUFS. Once
// either end is closed the error wraps os.ErrClosed.
func (q *Queue) Write(buf []byte, off int, h tun.VnetHeader) error {
	h.Encode(buf[off-tun.VnetHeaderLen:])
	select {
	case <-q.closed:
		return fmt.Errorf("write: %w", os.ErrClosed)
	case <-q.peer:
		return fmt.Errorf("write: the other end is gone: %w", os.ErrClosed)
	default:
	}
	select {
	case s := <-q.out.free:
		s.packet, s.header = append(s.packet[:0], buf[off:]...), h
		q.out.full <- s
		return nil
	default:
		return syscall.ENOBUFS
	}
}

// Close ends this end: its readers return, and the other end's when they have
// read what is left. It always returns nil.
func (q *Queue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

// slot is one packet on its way. Its memory is used again and again.
type slot struct {
	packet []byte
	header tun.VnetHeader
}

// ring is one direction. Every slot is in exactly one of both channels or in
// the hands of one goroutine, so that putting one back never waits.
type ring struct {
	free, full chan *slot
}

func newRing(depth int) *ring {
	r := &ring{free: make(chan *slot, depth), full: make(chan *slot, depth)}
	for range depth {
		r.free <- new(slot)
	}
	return r
}

// Interrupt ends the reading, as the real one does: what was written stays.
func (q *Queue) Interrupt() error {
	q.interrupt.Do(func() { close(q.interrupted) })
	return nil
}
