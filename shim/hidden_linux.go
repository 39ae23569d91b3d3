package shim

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The sockets of the hidden namespace that the relay keeps in stock.
const (
	stockUDP4 = iota
	stockPing4
	stockUDP6
	stockNetlink
	numStocks
)

// hidden is the supervisor's end of the hidden namespace.
type hidden struct {
	channel *channel
	stock   [numStocks]int // sockets come out of these
	cookie  uint64         // SO_NETNS_COOKIE
	pid     int
}

// hiddenReady is what the relay says when its namespace is set up.
type hiddenReady struct {
	Error  string `json:",omitempty"`
	Cookie uint64
	Ping   bool
}

// hiddenJob is what the relay is started with.
type hiddenJob struct {
	Policy Policy
	MTU    int // of IPv4 datagrams towards the PLAT, bytes
}

// hide starts a relay with a hidden namespace of its own.
func hide(job hiddenJob) (*hidden, error) {
	ours, theirs, err := newChannel()
	if err != nil {
		return nil, err
	}
	defer theirs.close()
	h := &hidden{channel: ours, stock: [numStocks]int{-1, -1, -1, -1}}
	ok := false
	defer func() {
		if !ok {
			h.close()
		}
	}()
	var ends []int
	defer func() {
		for _, fd := range ends {
			unix.Close(fd)
		}
	}()
	for i := range h.stock {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		h.stock[i] = pair[0]
		ends = append(ends, pair[1])
		setInt(pair[1], unix.SOL_SOCKET, unix.SO_SNDBUF, 4608) // a few sockets in stock
	}
	// It becomes root of a user namespace, which gives power over what is made
	// inside only, and makes the network namespace by itself: the relay needs
	// sockets of the host's network too.
	h.pid, err = stage("hide", theirs, &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Setpgid:     true,
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	if err := ours.send(job, ends...); err != nil {
		return nil, err
	}
	var ready hiddenReady
	if _, err := ours.receive(&ready, 10*time.Second); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	if ready.Error != "" {
		return nil, fmt.Errorf("%s", ready.Error)
	}
	if h.cookie = ready.Cookie; h.cookie == 0 {
		return nil, fmt.Errorf("the kernel cannot identify network namespaces (SO_NETNS_COOKIE, Linux 5.14)")
	}
	if !ready.Ping {
		unix.Close(h.stock[stockPing4])
		h.stock[stockPing4] = -1
	}
	ok = true
	return h, nil
}

func (h *hidden) close() {
	h.channel.close()
	for _, fd := range h.stock {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// update tells the relay a new policy.
func (h *hidden) update(p Policy) error { return h.channel.send(hiddenJob{Policy: p}) }

// owns reports whether a socket is of the hidden namespace.
func (h *hidden) owns(fd int) bool {
	c, err := netnsCookie(fd)
	return err == nil && c == h.cookie
}

// socket returns a datagram socket of the hidden namespace.
func (h *hidden) socket(family, proto int) (int, error) {
	switch {
	case family == unix.AF_INET6 && proto == unix.IPPROTO_UDP:
		return h.take(stockUDP6)
	case family == unix.AF_INET && proto == unix.IPPROTO_ICMP:
		return h.take(stockPing4)
	case family == unix.AF_INET:
		return h.take(stockUDP4)
	}
	return -1, unix.EPROTONOSUPPORT
}

// netlink returns a NETLINK_ROUTE socket of the hidden namespace.
func (h *hidden) netlink() (int, error) { return h.take(stockNetlink) }

// maxWait is how long the stock may be empty: the relay fills it at once.
const maxWait = 500 // milliseconds

// emptyStock is the error of take when the relay has yet to fill the stock.
type emptyStock int

func (emptyStock) Error() string { return "no spare socket of the hidden namespace" }

// wait waits until there is one. It returns false if none has come.
func (h *hidden) wait(which emptyStock) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.stock[which]), Events: unix.POLLIN}}, maxWait)
	return n > 0 || err == unix.EINTR
}

// take returns a socket of the stock. It does not wait for one.
func (h *hidden) take(which int) (int, error) {
	fd := h.stock[which]
	if fd < 0 {
		return -1, unix.EPROTONOSUPPORT
	}
	for {
		var b [1]byte
		var oob [64]byte
		n, on, flags, _, err := unix.Recvmsg(fd, b[:], oob[:], unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		switch err {
		case nil:
			if flags&unix.MSG_CTRUNC != 0 {
				return -1, unix.EMFILE // the socket is lost, as there was no number for it
			}
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return -1, emptyStock(which)
		default:
			return -1, err
		}
		if n == 0 {
			return -1, fmt.Errorf("the relay has ended")
		}
		return rights(oob[:on])
	}
}

// rights returns the descriptor in a control message.
func rights(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, err
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) > 0 {
			for _, fd := range fds[1:] {
				unix.Close(fd)
			}
			return fds[0], nil
		}
	}
	return -1, unix.EBADMSG
}

// channel carries JSON messages and descriptors between two of our processes.
type channel struct{ fd int }

func newChannel() (a, b *channel, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return &channel{p[0]}, &channel{p[1]}, nil
}

func (c *channel) close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// maxMessage bounds a message; a policy has up to some hundred networks.
const maxMessage = 128 << 10

func (c *channel) send(v any, fds ...int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(c.fd, b, oob, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// receive waits for a message; a limit of 0 waits for ever.
func (c *channel) receive(v any, limit time.Duration) (fds []int, err error) {
	if limit > 0 {
		end := time.Now().Add(limit)
		for {
			left := time.Until(end)
			if left <= 0 {
				return nil, unix.ETIMEDOUT
			}
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
			if err != nil && err != unix.EINTR {
				return nil, err
			}
			if n > 0 {
				break
			}
		}
	}
	b, oob := make([]byte, maxMessage), make([]byte, 256)
	for {
		n, on, _, _, err := unix.Recvmsg(c.fd, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, fmt.Errorf("the other end has closed")
		}
		if messages, err := unix.ParseSocketControlMessage(oob[:on]); err == nil {
			for _, m := range messages {
				if f, err := unix.ParseUnixRights(&m); err == nil {
					fds = append(fds, f...)
				}
			}
		}
		return fds, json.Unmarshal(b[:n], v)
	}
}
