package shim

import (
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const maxRoutes = 1024 // addresses that routes remembers

// routes tells whether the host has a route to an address, and remembers it
// until routing changes.
type routes struct {
	changes atomic.Uint64
	watched atomic.Bool // else nothing is remembered
	changed func()      // called after a change, by the watching goroutine; nil: nobody

	mu   sync.Mutex
	at   uint64 // changes when known was begun
	have map[netip.Addr]reach
}

// reach is how the host reaches an address.
type reach struct{ routed, broadcast bool }

// watch counts changes of the host's routing until the socket fails.
func (r *routes) watch() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	groups := 0
	for _, g := range []int{unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE} {
		groups |= 1 << (g - 1)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: uint32(groups)}); err != nil {
		unix.Close(fd)
		return err
	}
	file := os.NewFile(uintptr(fd), "route changes")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return err
	}
	r.watched.Store(true)
	go func() {
		defer file.Close()
		defer r.watched.Store(false)
		buf := make([]byte, 16<<10)
		for {
			var err error
			rerr := conn.Read(func(fd uintptr) bool {
				_, err = unix.Read(int(fd), buf)
				return err != unix.EAGAIN
			})
			if rerr != nil || err != nil && err != unix.EINTR && err != unix.ENOBUFS {
				return
			}
			r.changes.Add(1)
			if r.changed != nil {
				r.changed()
			}
		}
	}()
	return nil
}

// to reports whether the host has a route to a. It asks the kernel to connect a
// datagram socket, which sends nothing.
func (r *routes) to(a netip.Addr) bool { return r.reach(a).routed }

// broadcast reports whether a is the broadcast address of a link.
func (r *routes) broadcast(a netip.Addr) bool { return r.reach(a).broadcast }

func (r *routes) reach(a netip.Addr) reach {
	now := r.changes.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at != now || r.have == nil || len(r.have) >= maxRoutes || !r.watched.Load() {
		r.at, r.have = now, map[netip.Addr]reach{}
	}
	found, known := r.have[a]
	if !known {
		found = reachOf(a)
		r.have[a] = found
	}
	return found
}

func routeTo(a netip.Addr) bool { return reachOf(a).routed }

func reachOf(a netip.Addr) reach {
	family := unix.AF_INET6
	if a.Is4() {
		family = unix.AF_INET
	}
	s, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return reach{}
	}
	defer unix.Close(s)
	to := sockaddr(netip.AddrPortFrom(a, 9))
	err = unix.Connect(s, to)
	if err != unix.EACCES || !a.Is4() {
		return reach{routed: err == nil}
	}
	// To a broadcast address it takes SO_BROADCAST; a route may prohibit as well.
	ok := setInt(s, unix.SOL_SOCKET, unix.SO_BROADCAST, 1) == nil && unix.Connect(s, to) == nil
	return reach{routed: ok, broadcast: ok}
}

// HasIPv4 reports whether the host has an IPv4 default route, or what serves as
// one: routes to two root name servers. Nothing is sent.
func HasIPv4() bool {
	return routeTo(netip.AddrFrom4([4]byte{198, 41, 0, 4})) && routeTo(netip.AddrFrom4([4]byte{90, 0, 0, 1}))
}
