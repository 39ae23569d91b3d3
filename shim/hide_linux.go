package shim

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// runHide is the relay's process: root of a user namespace that it does not
// leave. One thread is in the hidden network namespace, the others are in the
// host's.
func runHide(c *channel) error {
	debug.SetGCPercent(50)
	var job hiddenJob
	fds, err := c.receive(&job, 0)
	if err != nil {
		return err
	}
	if len(fds) != numStocks {
		return fmt.Errorf("%d sockets instead of %d", len(fds), numStocks)
	}
	table, err := job.Policy.prepare()
	if err != nil {
		return err
	}
	r := newRelay(table)
	r.mtu = job.MTU
	inside := make(chan error)
	ready := hiddenReady{}
	go r.thread.run(func() {
		cookie, ping, err := r.enter(job.MTU, false)
		ready.Cookie, ready.Ping = cookie, ping
		inside <- err
	})
	if err := <-inside; err != nil {
		ready.Error = err.Error()
		c.send(ready)
		return nil
	}
	ready.Ping = ready.Ping && canPing6()
	if err := r.routes.watch(); err != nil {
		return err
	}
	for i, fd := range fds {
		go keepStock(r, i, fd)
	}
	r.run(ready.Ping)
	go r.look()
	if err := c.send(ready); err != nil {
		return err
	}
	for { // until the supervisor has ended
		var update hiddenJob
		if _, err := c.receive(&update, 0); err != nil {
			return nil
		}
		if t, err := update.Policy.prepare(); err == nil {
			r.policy.Store(t)
		}
	}
}

// canPing6 reports whether this user may have ICMPv6 ping sockets
// (net.ipv4.ping_group_range).
func canPing6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// enter makes the hidden network namespace, with the calling thread in it, and
// opens the relay's sockets there. With hold it takes connections as well.
func (r *relay) enter(mtu int, hold bool) (cookie uint64, ping bool, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return 0, false, fmt.Errorf("network namespace: %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return 0, false, err
	}
	r.namespace = ns
	if err := setUp(mtu); err != nil {
		return 0, false, err
	}
	var port4, port6 uint16
	if r.in4, port4, err = transparent(unix.AF_INET); err != nil {
		return 0, false, fmt.Errorf("transparent socket: %w", err)
	}
	if r.out4, err = injector(unix.AF_INET); err != nil {
		return 0, false, fmt.Errorf("raw socket: %w", err)
	}
	if r.in6, port6, err = transparent(unix.AF_INET6); err == nil {
		if r.out6, err = injector(unix.AF_INET6); err != nil {
			return 0, false, fmt.Errorf("raw socket: %w", err)
		}
	}
	r.segments = openSegmentInjector()
	var listener uint16
	if hold {
		if r.holder, listener, err = openHolder(r); err != nil {
			return 0, false, fmt.Errorf("sockets that hold connections: %w", err)
		}
	}
	if err := divert(port4, port6, listener); err != nil {
		return 0, false, err
	}
	if permitPing() == nil {
		if r.echo4, err = echoes(); err == nil {
			ping = true
		}
	}
	cookie, err = netnsCookie(r.in4)
	if err != nil {
		return 0, false, fmt.Errorf("SO_NETNS_COOKIE (Linux 5.14): %w", err)
	}
	return cookie, ping, nil
}

// keepStock keeps sockets of one kind in stock: the kernel's queue is the stock.
func keepStock(r *relay, which, to int) {
	runtime.LockOSThread() // until the process ends
	if unix.Setns(int(r.namespace.Fd()), unix.CLONE_NEWNET) != nil {
		unix.Close(to)
		return
	}
	for {
		s, err := stockSocket(which)
		if exhausted(err) {
			r.flows.release()
			time.Sleep(maxWait * time.Millisecond / 10)
			continue
		}
		if err != nil {
			unix.Close(to)
			return
		}
		err = unix.EINTR
		for err == unix.EINTR || err == unix.ETOOMANYREFS {
			// All processes of the user have sent as many descriptors as one may have.
			if err == unix.ETOOMANYREFS {
				time.Sleep(maxWait * time.Millisecond / 10)
			}
			err = unix.Sendmsg(to, []byte{0}, unix.UnixRights(s), nil, unix.MSG_NOSIGNAL)
		}
		unix.Close(s)
		if err != nil {
			unix.Close(to)
			return
		}
	}
}

func stockSocket(which int) (int, error) {
	switch which {
	case stockUDP4:
		return unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	case stockPing4:
		return unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	case stockUDP6:
		return unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
	return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
}
