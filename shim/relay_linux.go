package shim

import (
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// relay forwards datagrams between the hidden namespace and the host's network.
//
// What a socket of the program sends leaves from one IPv6 socket, whatever the
// destination: servers that compare notes see one port, as with a socket of the
// host's (endpoint-independent mapping, RFC 4787 section 4.1). Only answers from
// addresses that stand for IPv4 ones come back to it.
type relay struct {
	policy    atomic.Pointer[table]
	routes    routes
	namespace *os.File
	thread    chan func() // runs functions inside the namespace
	holder    *holder     // nil: connections are not the relay's business

	in4, in6   int // transparent sockets
	out4, out6 int // raw sockets
	echo4      int // raw ICMP socket
	mtu        int // of IPv4 datagrams, bytes

	mu    sync.Mutex
	flows map[flowKey]*flow

	drops [numRelayDrops]atomic.Uint64
}

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

type flow struct {
	key  flowKey
	file *os.File
	conn syscall.RawConn
	fd   int
	born time.Time
	used atomic.Int64 // Unix time in seconds
	hops atomic.Int32 // multicast TTL that is set
}

// maxFlows bounds outer sockets. The one that has been idle for longest goes.
const maxFlows = 1024

func newRelay(t *table) *relay {
	r := &relay{flows: map[flowKey]*flow{}, in4: -1, in6: -1, out4: -1, out6: -1, echo4: -1, thread: make(chan func())}
	r.policy.Store(t)
	return r
}

// run forwards until the process ends.
func (r *relay) run(ping bool) {
	go r.forward(r.in4)
	if r.in6 >= 0 {
		go r.forward(r.in6)
	}
	if ping {
		go r.forwardEchoes()
	}
	if r.holder != nil {
		r.holder.run()
	}
}

// onThread runs begin on a thread of its own, which is to enter the hidden
// namespace, and then whatever inside is given.
func (r *relay) onThread(begin func()) {
	runtime.LockOSThread() // until the process ends
	begin()
	for f := range r.thread {
		f()
	}
}

// inside runs f on the thread in the hidden namespace and waits for it.
func (r *relay) inside(f func()) {
	done := make(chan struct{})
	r.thread <- func() {
		f()
		close(done)
	}
	<-done
}

// facts are those of the host at present. The relay does not see failures, so
// that it remembers none.
func (r *relay) facts() facts {
	return facts{
		ipv4: r.routes.to, ipv6: r.routes.to,
		remembered: func(netip.Addr) (bool, bool) { return false, false },
	}
}

// pending is a run of datagrams of one flow to one destination.
type pending struct {
	flow *flow
	from netip.AddrPort
	to   netip.AddrPort // on the host's network
	orig netip.AddrPort // as the program named it
	hops int
	size int // of all but the last
	iovs []unix.Iovec
	sum  int
	most int // of size: what fits into a packet
}

// forward takes what the program sends.
func (r *relay) forward(fd int) {
	runtime.LockOSThread()
	b, err := newBatch()
	if err != nil {
		return
	}
	p := pending{iovs: make([]unix.Iovec, 0, batchSize), most: r.mtu - sizeofIPv4 - sizeofUDP}
	for {
		n, err := b.receive(fd, unix.MSG_WAITFORONE)
		if err != nil {
			if err == unix.EBADF || err == unix.ENOTSOCK {
				return
			}
			continue
		}
		for i := range n {
			from, orig, hops := b.from(i), netip.AddrPort{}, 0
			eachControl(b.control(i), func(level, typ int32, data []byte) {
				switch {
				case level == unix.SOL_IP && typ == unix.IP_ORIGDSTADDR && len(data) >= unix.SizeofSockaddrInet4,
					level == unix.SOL_IPV6 && typ == unix.IPV6_ORIGDSTADDR && len(data) >= unix.SizeofSockaddrInet6:
					var sa unix.RawSockaddrInet6
					copy((*[unix.SizeofSockaddrInet6]byte)(unsafe.Pointer(&sa))[:], data)
					orig = rawAddrPort(&sa)
				case level == unix.SOL_IP && typ == unix.IP_TTL && len(data) >= 4,
					level == unix.SOL_IPV6 && typ == unix.IPV6_HOPLIMIT && len(data) >= 4:
					hops = int(data[0])
				}
			})
			data := b.datagram(i)
			if !orig.IsValid() || !from.IsValid() || orig.Port() == 0 {
				r.drops[dropMalformed].Add(1)
				continue
			}
			if p.joins(from, orig, hops, len(data)) {
				p.add(data)
				continue
			}
			r.flush(&p)
			r.begin(&p, from, orig, hops)
			if p.flow != nil {
				p.size = len(data)
				p.add(data)
			}
		}
		r.flush(&p)
	}
}

const maxSegments = 64 // UDP_MAX_SEGMENTS

// joins reports whether a datagram can go out in one system call with those
// that wait (UDP_SEGMENT): they have one size, the last may be shorter.
func (p *pending) joins(from, orig netip.AddrPort, hops, size int) bool {
	if p.flow == nil || len(p.iovs) == 0 || p.flow.key.kind == flowMulticast {
		return false
	}
	return p.from == from && p.orig == orig && p.hops == hops && len(p.iovs) < maxSegments && size > 0 &&
		size <= p.size && p.sum == p.size*len(p.iovs) && p.sum+size <= 60000 && p.size <= p.most
}

func (p *pending) add(data []byte) {
	v := unix.Iovec{}
	if len(data) > 0 {
		v.Base = &data[0]
	}
	v.SetLen(len(data))
	p.iovs = append(p.iovs, v)
	p.sum += len(data)
}

// begin finds out where a datagram goes. p.flow is nil if nowhere.
func (r *relay) begin(p *pending, from, orig netip.AddrPort, hops int) {
	p.flow, p.from, p.orig, p.hops, p.sum, p.iovs = nil, from, orig, hops, 0, p.iovs[:0]
	key, to, ok := r.where(from, orig)
	if !ok {
		r.drops[dropNoPrefix].Add(1)
		r.unreachable(from, orig)
		return
	}
	p.to = to
	p.flow = r.flow(key)
}

// where returns the flow for a datagram, and its destination on the host's
// network.
func (r *relay) where(from, orig netip.AddrPort) (key flowKey, to netip.AddrPort, ok bool) {
	a := orig.Addr()
	if a.Is6() && !a.Is4In6() {
		return flowKey{flowIPv6, from, netip.AddrPort{}}, orig, true
	}
	t := r.policy.Load()
	switch d, why := t.decide(a, r.facts()); {
	case d == NoPrefix:
		return key, to, false
	case d == Translate:
		six, _ := t.embed(a)
		return flowKey{flowIPv6, from, netip.AddrPort{}}, netip.AddrPortFrom(six, orig.Port()), true
	case why == WhyMulticast || why == WhyBroadcast:
		return flowKey{flowMulticast, from, netip.AddrPort{}}, orig, true
	}
	return flowKey{flowHost, from, orig}, orig, true
}

// flush sends what waits.
func (r *relay) flush(p *pending) {
	if p.flow == nil || len(p.iovs) == 0 {
		return
	}
	f := p.flow
	f.used.Store(time.Now().Unix())
	var name unix.RawSockaddrInet6
	var h unix.Msghdr
	if f.key.kind != flowHost {
		h.Name = (*byte)(unsafe.Pointer(&name))
		h.Namelen = rawName(&name, p.to)
	}
	h.Iov = &p.iovs[0]
	h.SetIovlen(len(p.iovs))
	var space [96]byte
	control := space[:0]
	if len(p.iovs) > 1 {
		control = appendControl(control, unix.SOL_UDP, udpSegment, 2, p.size)
	}
	if p.hops != 0 && p.hops != defaultHops {
		switch f.key.kind {
		case flowIPv6:
			control = appendControl(control, unix.SOL_IPV6, unix.IPV6_HOPLIMIT, 4, p.hops)
		case flowHost:
			control = appendControl(control, unix.SOL_IP, unix.IP_TTL, 4, p.hops)
		}
	}
	if f.key.kind == flowMulticast && f.hops.Swap(int32(p.hops)) != int32(p.hops) {
		unix.SetsockoptInt(f.fd, unix.SOL_IP, unix.IP_MULTICAST_TTL, max(1, p.hops))
	}
	if len(control) > 0 {
		h.Control = &control[0]
		h.SetControllen(len(control))
	}
	err := sendmsg(f.fd, &h)
	if err != nil && len(p.iovs) > 1 && (err == unix.EIO || err == unix.EINVAL || err == unix.EMSGSIZE) {
		err = nil
		for i := range p.iovs {
			h.Iov, h.Control = &p.iovs[i], nil
			h.SetIovlen(1)
			h.SetControllen(0)
			if e := sendmsg(f.fd, &h); e != nil {
				err = e
			}
		}
	}
	if err != nil {
		r.drops[dropSend].Add(1)
		if err == unix.ENETUNREACH || err == unix.EHOSTUNREACH {
			r.unreachable(p.from, p.orig)
		}
	}
	p.flow, p.iovs = nil, p.iovs[:0]
}

// defaultHops is what datagrams of the hidden namespace begin with.
const defaultHops = 64

// sendmsg sends without waiting for ever. An error that an earlier datagram
// has brought about is reported once and is not this one's.
func sendmsg(fd int, h *unix.Msghdr) error {
	for range 4 {
		_, _, e := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch e {
		case 0:
			return nil
		case unix.EINTR, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.EPROTO:
			continue
		case unix.EAGAIN:
			unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 10)
			continue
		}
		return e
	}
	return unix.EAGAIN
}

// flow returns the flow for a key, and makes it if need be. nil: it cannot.
func (r *relay) flow(key flowKey) *flow {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f, ok := r.flows[key]; ok {
		return f
	}
	if len(r.flows) >= maxFlows {
		r.evict()
	}
	f, err := openFlow(key)
	if err != nil {
		r.drops[dropNoSocket].Add(1)
		return nil
	}
	r.flows[key] = f
	go r.backward(f)
	return f
}

func (r *relay) evict() {
	var oldest *flow
	for _, f := range r.flows {
		if oldest == nil || f.used.Load() < oldest.used.Load() {
			oldest = f
		}
	}
	r.drops[dropEvicted].Add(1)
	r.drop(oldest)
}

// drop is called with the lock held.
func (r *relay) drop(f *flow) {
	if r.flows[f.key] == f {
		delete(r.flows, f.key)
	}
	f.file.Close()
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
	f := &flow{key: key, file: os.NewFile(uintptr(fd), "flow"), fd: fd, born: time.Now()}
	f.used.Store(f.born.Unix())
	if f.conn, err = f.file.SyscallConn(); err != nil {
		f.file.Close()
		return nil, err
	}
	return f, nil
}
