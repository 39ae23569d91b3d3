package shim

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// relayDrop is why a datagram was not forwarded.
type relayDrop uint8

const (
	dropNoPrefix  relayDrop = iota // no PREF64
	dropSend                       // the host's network refused it
	dropForeign                    // it came from an address that stands for no IPv4 address
	dropMalformed                  // it made no sense
	dropNoSocket                   // no more descriptors
	dropEvicted                    // a flow, for want of room
	numRelayDrops
)

// flowKind says what a flow's outer socket is.
type flowKind uint8

const (
	flowIPv6      flowKind = iota // IPv6, unconnected: NAT64 and IPv6 itself
	flowHost                      // IPv4 of the host, connected
	flowMulticast                 // IPv4 of the host, unconnected
	flowPing                      // ICMPv6 echo
	flowHostPing                  // ICMP echo of the host
)

// flowKey is what a flow belongs to.
type flowKey struct {
	kind flowKind
	from netip.AddrPort // the program's socket; of echo requests the port is the identifier
	to   netip.AddrPort // only of flowHost
}

// socketKey is a port of the hidden namespace in use.
type socketKey struct {
	ping bool
	port uint16
}

// flow is an outer socket.
type flow struct {
	key  flowKey
	id   uint64 // with epoll
	born time.Time
	used atomic.Int64 // Unix time in seconds
	hops atomic.Int32 // multicast TTL that is set

	mu sync.RWMutex // held for writing to close fd
	fd int          // -1: closed
}

// maxFlows bounds outer sockets, as does half of the descriptors that the process may
// have. The one that has been idle for longest goes.
const maxFlows = 1024

// flows are the outer sockets of a relay, by what they belong to.
type flows struct {
	most  int // of them
	ready int // epoll instance with all of them; -1: none, nothing comes back

	mu   sync.Mutex
	by   map[flowKey]*flow
	ids  map[uint64]*flow
	last uint64 // id

	drops [numRelayDrops]atomic.Uint64
}

func newFlows() *flows {
	fs := &flows{most: maxFlows, by: map[flowKey]*flow{}, ids: map[uint64]*flow{}}
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		fs.most = int(min(maxFlows, max(1, l.Cur/2)))
	}
	var err error
	if fs.ready, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		fs.ready = -1
	}
	return fs
}

// get returns the flow for a key, and makes it if need be. nil: it cannot.
func (fs *flows) get(key flowKey) *flow {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f, ok := fs.by[key]; ok {
		return f
	}
	if len(fs.by) >= fs.most {
		fs.evict()
	}
	f, err := openFlow(key)
	if exhausted(err) && len(fs.by) > 0 {
		fs.evict()
		f, err = openFlow(key)
	}
	if err != nil {
		fs.drops[dropNoSocket].Add(1)
		return nil
	}
	fs.last++
	f.id = fs.last
	fs.by[key], fs.ids[f.id] = f, f
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(f.id), Pad: int32(f.id >> 32)}
	if err := unix.EpollCtl(fs.ready, unix.EPOLL_CTL_ADD, f.fd, &ev); err != nil {
		fs.drop(f)
		fs.drops[dropNoSocket].Add(1)
		return nil
	}
	return f
}

// of returns the flow that an epoll event is about; nil: it has gone.
func (fs *flows) of(ev *unix.EpollEvent) *flow {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.ids[uint64(uint32(ev.Fd))|uint64(uint32(ev.Pad))<<32]
}

// release drops a flow, as its descriptor is needed for something else.
func (fs *flows) release() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(fs.by) > 0 {
		fs.evict()
	}
}

// evict drops the flow that has been idle for longest. It is called with the
// lock held.
func (fs *flows) evict() {
	var oldest *flow
	for _, f := range fs.by {
		if oldest == nil || f.used.Load() < oldest.used.Load() {
			oldest = f
		}
	}
	fs.drops[dropEvicted].Add(1)
	fs.drop(oldest)
}

// drop is called with the lock held.
func (fs *flows) drop(f *flow) {
	delete(fs.by, f.key)
	delete(fs.ids, f.id)
	f.mu.Lock()
	defer f.mu.Unlock()
	unix.Close(f.fd)
	f.fd = -1
}

// sweep drops flows whose socket the program has closed.
func (fs *flows) sweep(live map[socketKey]bool, now time.Time) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for key, f := range fs.by {
		ping := key.kind == flowPing || key.kind == flowHostPing
		if !live[socketKey{ping, key.from.Port()}] && now.Sub(f.born) > lookEvery {
			fs.drop(f)
		}
	}
}

// openFlow opens the outer socket of a flow, on the host's network.
func openFlow(key flowKey) (*flow, error) {
	family, proto := unix.AF_INET, 0
	switch key.kind {
	case flowIPv6:
		family = unix.AF_INET6
	case flowPing:
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	case flowHostPing:
		proto = unix.IPPROTO_ICMP
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, err
	}
	if family == unix.AF_INET6 {
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
	} else {
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
	switch key.kind {
	case flowIPv6:
		unix.SetsockoptInt(fd, unix.SOL_UDP, udpGRO, 1)
	case flowHost:
		unix.SetsockoptInt(fd, unix.SOL_UDP, udpGRO, 1)
		err = unix.Connect(fd, sockaddr(key.to))
	case flowMulticast:
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	f := &flow{key: key, fd: fd, born: time.Now()}
	f.used.Store(f.born.Unix())
	return f, nil
}
