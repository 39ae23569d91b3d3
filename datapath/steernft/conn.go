package steernft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// conn is a socket to nf_tables in the network namespace of the thread that
// opened it. A table that is made with the owner flag belongs to the socket: no
// other program can change it, and it vanishes when the socket closes.
type conn struct {
	mu  sync.Mutex
	fd  int // -1: closed
	seq uint32
	buf []byte
}

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, &Error{"open a netlink socket", err}
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, &Error{"open a netlink socket", err}
	}
	// A batch is one message. The kernel gives as much as net.core.wmem_max allows.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
	// A message of the kernel has at most 32 KiB.
	return &conn{fd: fd, buf: make([]byte, 1<<16)}, nil
}

func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	err := unix.Close(c.fd)
	c.fd = -1
	return err
}

// commit makes all of ms come true, or none. The error names the first message
// that the kernel refused.
func (c *conn) commit(ms []message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.seq + 1
	b := appendHeader(nil, unix.NFNL_MSG_BATCH_BEGIN, 0, first, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, 0)
	for i, m := range ms {
		var flags uint16
		if i == len(ms)-1 {
			flags = unix.NLM_F_ACK
		}
		b = m.append(b, flags, first+1+uint32(i))
	}
	last := first + uint32(len(ms))
	b = appendHeader(b, unix.NFNL_MSG_BATCH_END, 0, last+1, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, 0)
	c.seq = last + 1

	done := false
	var failed error
	err := c.exchange(b, func(typ uint16, seq uint32, data []byte) {
		if typ != unix.NLMSG_ERROR || len(data) < 4 || seq < first || seq > last+1 {
			return
		}
		errno := -int32(binary.NativeEndian.Uint32(data))
		switch {
		case errno == 0:
			done = done || seq == last
		case failed == nil:
			op := "commit the ruleset"
			if seq > first && seq <= last {
				op = ms[seq-first-1].what
			}
			failed = &Error{op, unix.Errno(errno)}
		}
	})
	switch {
	case err != nil:
		return &Error{"talk to nf_tables", err}
	case failed != nil:
		return failed
	case !done:
		return &Error{"talk to nf_tables", errors.New("no answer")}
	}
	return nil
}

// get sends a request and calls f with the attributes of each answer.
func (c *conn) get(m message, f func(b []byte)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	want, done := c.seq, false
	var failed error
	err := c.exchange(m.append(nil, 0, want), func(typ uint16, seq uint32, data []byte) {
		switch {
		case seq != want || done:
		case typ == unix.NLMSG_DONE:
			done = true
		case typ == unix.NLMSG_ERROR && len(data) >= 4:
			done = true
			if errno := -int32(binary.NativeEndian.Uint32(data)); errno != 0 {
				failed = unix.Errno(errno)
			}
		case typ>>8 == unix.NFNL_SUBSYS_NFTABLES && len(data) >= nfgenmsgLen:
			done = m.flags&unix.NLM_F_DUMP == 0
			f(data[nfgenmsgLen:])
		}
	})
	if err == nil {
		err = failed
	}
	if err == nil && !done {
		err = errors.New("no answer")
	}
	if err != nil {
		return &Error{m.what, err}
	}
	return nil
}

// exchange sends b and calls f with every answer. The kernel answers before
// sendto(2) returns, and goes on with a dump when its last part is read.
func (c *conn) exchange(b []byte, f func(typ uint16, seq uint32, data []byte)) error {
	if c.fd < 0 {
		return unix.EBADF
	}
	if err := again(func() error { return unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) }); err != nil {
		return err
	}
	for {
		var n int
		err := again(func() (err error) {
			n, _, err = unix.Recvfrom(c.fd, c.buf, unix.MSG_DONTWAIT)
			return err
		})
		if err == unix.EAGAIN {
			return nil
		}
		if err != nil {
			return err
		}
		for m := c.buf[:n]; len(m) >= unix.SizeofNlMsghdr; {
			l := int(binary.NativeEndian.Uint32(m))
			if l < unix.SizeofNlMsghdr || l > len(m) {
				return fmt.Errorf("a message of %d bytes in %d", l, len(m))
			}
			f(binary.NativeEndian.Uint16(m[4:]), binary.NativeEndian.Uint32(m[8:]), m[unix.SizeofNlMsghdr:l])
			m = m[min((l+3)&^3, len(m)):]
		}
	}
}

// again repeats a system call that a signal has interrupted.
func again(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
