package pref64

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// The kernel sends the options of one RA one by one. Waiting this long
	// after the first makes them one Report, so that an RA that withdraws one
	// prefix and brings the next does not look like a moment without.
	userOptSettle = 5 * time.Millisecond
	maxBatch      = 64 // datagrams in one Report
)

// userOptConn receives the ND options that the kernel passes on
// (RTNLGRP_ND_USEROPT). It needs no privilege. Nothing comes while the kernel
// does not accept RAs itself (accept_ra=0).
type userOptConn struct {
	file    *os.File
	raw     syscall.RawConn
	buf     []byte
	ifindex int
}

func openUserOpt(ifindex int) (*userOptConn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.RTNLGRP_ND_USEROPT - 1)}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("subscribe to ND user options: %w", err)
	}
	file := os.NewFile(uintptr(fd), "nd-useropt")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &userOptConn{file: file, raw: raw, buf: make([]byte, 8192), ifindex: ifindex}, nil
}

func (c *userOptConn) close() { c.file.Close() }

// read waits for options and returns them.
func (c *userOptConn) read() (Report, error) {
	var r Report
	if err := c.receive(&r, true); err != nil {
		return r, err
	}
	time.Sleep(userOptSettle)
	for range maxBatch - 1 {
		if c.receive(&r, false) != nil {
			break // nothing more, or the next read meets the error again
		}
	}
	return r, nil
}

// receive reads one datagram into r. Events lost to a full buffer are not an
// error: the next RA brings them again.
func (c *userOptConn) receive(r *Report, wait bool) error {
	var (
		n    int
		from unix.Sockaddr
		err  error
	)
	rerr := c.raw.Read(func(fd uintptr) bool {
		for {
			n, from, err = unix.Recvfrom(int(fd), c.buf, 0)
			if err != unix.EINTR {
				return !wait || err != unix.EAGAIN
			}
		}
	})
	switch {
	case rerr != nil:
		return rerr
	case err == unix.ENOBUFS:
		r.Ignored = append(r.Ignored, Ignored{Reason: EventsLost})
		return nil
	case err != nil:
		return os.NewSyscallError("recvfrom", err)
	}
	// Only port 0 is the kernel.
	if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
		return nil
	}
	r.add(c.buf[:n], c.ifindex, time.Now())
	return nil
}
