package shim

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// firstTimeout is how long IPv4 is tried before NAT64.
const firstTimeout = 5 * time.Second

// maxJudges bounds the connections of programs that do not wait of which we wait
// for the end, each with a thread.
const maxJudges = 64

// ipv4First tries IPv4. It takes over old.
func ipv4First(t *trapped, tab *table, old int, p *process, k kind, to name) (reply, func() reply) {
	status, err := fileStatus(old)
	if err != nil {
		unix.Close(old)
		return fail(err), nil
	}
	dest := to.AddrPort
	if k.family == unix.AF_INET6 {
		dest = netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
	}
	if status&unix.O_NONBLOCK != 0 {
		// The program does not wait: what comes of it counts for the next time.
		err := connectTo(old, dest)
		if err == unix.EINPROGRESS {
			if t.judges.Add(1) > maxJudges {
				t.judges.Add(-1)
				unix.Close(old)
				return fail(err), nil
			}
			go func() {
				defer t.judges.Add(-1)
				defer unix.Close(old)
				judgeIPv4(t.supervisor, tab, to.Addr(), connected(old, firstTimeout, nil))
			}()
			return fail(err), nil
		}
		defer unix.Close(old)
		if e, _ := err.(unix.Errno); err != nil && judgeIPv4(t.supervisor, tab, to.Addr(), e) {
			return connectTranslated(t, tab, old, p, k, to), nil
		}
		if err != nil {
			return fail(err), nil
		}
		return reply{}, nil
	}
	return reply{}, func() reply {
		defer unix.Close(old)
		lock := connectLock(t.supervisor, k.cookie)
		lock.Lock()
		r := startConnect(t, old, dest)
		lock.Unlock()
		e := r.errno
		if r.proceed {
			e = connected(old, firstTimeout, t.waiting)
		}
		if e != 0 && judgeIPv4(t.supervisor, tab, to.Addr(), e) {
			unix.Connect(old, &unix.SockaddrInet4{}) // no effect if it has failed
			return connectTranslated(t, tab, old, p, k, to)
		}
		return reply{errno: e}
	}
}

// judgeIPv4 remembers whether IPv4 works for a destination, and reports whether
// NAT64 is to be used.
func judgeIPv4(s *supervisor, tab *table, a netip.Addr, e unix.Errno) bool {
	switch e {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ETIMEDOUT, unix.ENETDOWN, unix.EADDRNOTAVAIL:
	default:
		return false // it answers, or the program has done something wrong
	}
	if _, have := tab.embed(a); !have {
		return false
	}
	s.memory.set(a, false, time.Now())
	s.say("first "+a.String(), "IPv4 does not reach %s: using NAT64 for the next 10 minutes", a)
	return true
}

// connected waits for a connection and returns its error: ETIMEDOUT after limit,
// EINTR when the program does not wait any more, which waiting says unless it is nil.
func connected(fd int, limit time.Duration, waiting func() bool) unix.Errno {
	if !settled(fd, limit, waiting) {
		if waiting != nil && !waiting() {
			return unix.EINTR
		}
		return unix.ETIMEDOUT
	}
	e, err := getInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return unix.EIO
	}
	return unix.Errno(e)
}

// settled waits until a connection is made or has failed, for limit at most, and
// while the program waits.
func settled(fd int, limit time.Duration, waiting func() bool) bool {
	end := time.Now().Add(limit)
	for {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		if waiting != nil {
			left = min(left, lookAfter)
		}
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(p, int(min(left, time.Hour)/time.Millisecond)+1)
		switch {
		case waiting != nil && !waiting():
			return false
		case err == unix.EINTR || err == nil && n == 0:
			continue
		}
		return true
	}
}
