package shim

import (
	"encoding/binary"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
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
	thread    insideThread
	holder    *holder // nil: connections are not the relay's business

	in4, in6   int // transparent sockets
	out4, out6 int // raw sockets
	segments   segmentInjector
	echo4      int // raw ICMP socket
	mtu        int // of IPv4 datagrams, bytes

	flows *flows
}

func newRelay(t *table) *relay {
	r := &relay{flows: newFlows(), in4: -1, in6: -1, out4: -1, out6: -1, echo4: -1, segments: segmentInjector{fd: -1}, thread: make(insideThread)}
	r.policy.Store(t)
	return r
}

// run forwards until the process ends.
func (r *relay) run(ping bool) {
	go r.collect()
	go r.forward(r.in4)
	if r.in6 >= 0 {
		go r.forward(r.in6)
	}
	if ping {
		go forwardEchoes(r)
	}
	if r.holder != nil {
		r.holder.run()
	}
}

// insideThread takes functions for the thread in the hidden namespace.
type insideThread chan func()

// run runs begin on a thread of its own, which is to enter the hidden
// namespace, and then whatever do is given.
func (t insideThread) run(begin func()) {
	runtime.LockOSThread() // until the process ends
	begin()
	for f := range t {
		f()
	}
}

// do runs f on the thread in the hidden namespace and waits for it.
func (t insideThread) do(f func()) {
	done := make(chan struct{})
	t <- func() {
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
	n    int // datagrams
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
			data, from, orig, hops := b.datagram(i), b.from(i), netip.AddrPort{}, 0
			size := len(data)
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
				case level == unix.SOL_UDP && typ == udpGRO && len(data) >= 4:
					size = segmentSize(data, size)
				}
			})
			if !orig.IsValid() || !from.IsValid() || orig.Port() == 0 {
				r.flows.drops[dropMalformed].Add(1)
				continue
			}
			if !p.joins(from, orig, hops, len(data), size) {
				r.flush(&p)
				r.begin(&p, from, orig, hops)
				p.size = size
			}
			if p.flow != nil {
				p.add(data)
			}
		}
		r.flush(&p)
	}
}

const maxSegments = 64 // UDP_MAX_SEGMENTS

// segmentSize reads the control message of UDP_GRO: the size of the datagrams that
// are in one, or otherwise if it makes no sense.
func segmentSize(data []byte, otherwise int) int {
	if s := int(binary.NativeEndian.Uint32(data)); s > 0 && s < otherwise {
		return s
	}
	return otherwise
}

// joins reports whether datagrams, all but the last of a size, can go out in one
// system call with those that wait (UDP_SEGMENT): they have one size, the last may
// be shorter. length is that of all together.
func (p *pending) joins(from, orig netip.AddrPort, hops, length, size int) bool {
	if p.flow == nil || p.n == 0 || p.flow.key.kind == flowMulticast {
		return false
	}
	return p.from == from && p.orig == orig && p.hops == hops && length > 0 &&
		p.n+segments(length, size) <= maxSegments && (size == p.size || size == length && length < p.size) &&
		p.sum == p.size*p.n && p.sum+length <= 60000 && p.size <= p.most
}

// segments returns how many datagrams of a size there are in length bytes.
func segments(length, size int) int { return max(1, (length+size-1)/max(1, size)) }

// add appends datagrams of p.size bytes each, the last of which may be shorter.
func (p *pending) add(data []byte) {
	v := unix.Iovec{}
	if len(data) > 0 {
		v.Base = &data[0]
	}
	v.SetLen(len(data))
	p.iovs = append(p.iovs, v)
	p.n += segments(len(data), p.size)
	p.sum += len(data)
}

// clear makes it empty.
func (p *pending) clear() { p.flow, p.iovs, p.n, p.sum = nil, p.iovs[:0], 0, 0 }

// each calls f with every datagram.
func (p *pending) each(f func(*unix.Iovec)) {
	for _, v := range p.iovs {
		for rest := int(v.Len); ; {
			v.SetLen(min(rest, p.size))
			f(&v)
			if rest -= int(v.Len); rest == 0 {
				break
			}
			v.Base = (*byte)(unsafe.Add(unsafe.Pointer(v.Base), v.Len))
		}
	}
}

// begin finds out where a datagram goes. p.flow is nil if nowhere.
func (r *relay) begin(p *pending, from, orig netip.AddrPort, hops int) {
	p.clear()
	p.from, p.orig, p.hops = from, orig, hops
	key, to, ok := r.where(from, orig)
	if !ok {
		r.flows.drops[dropNoPrefix].Add(1)
		unreachable(r, from, orig)
		return
	}
	p.to = to
	p.flow = r.flows.get(key)
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
	case why == WhyMulticast || why == WhyBroadcast || r.routes.broadcast(a):
		return flowKey{flowMulticast, from, netip.AddrPort{}}, orig, true
	}
	return flowKey{flowHost, from, orig}, orig, true
}

// flush sends what waits.
func (r *relay) flush(p *pending) {
	if p.flow == nil || p.n == 0 {
		return
	}
	f := p.flow
	f.mu.RLock()
	defer f.mu.RUnlock()
	f.used.Store(time.Now().Unix())
	var name unix.RawSockaddrInet6
	var h unix.Msghdr
	if f.key.kind != flowHost {
		h.Name = (*byte)(unsafe.Pointer(&name))
		h.Namelen = rawName(&name, p.to)
	}
	var space [96]byte
	control := space[:0]
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
	send := func(iovs []unix.Iovec, control []byte) error {
		h.Iov, h.Control = &iovs[0], nil
		h.SetIovlen(len(iovs))
		h.SetControllen(len(control))
		if len(control) > 0 {
			h.Control = &control[0]
		}
		return sendmsg(f.fd, &h)
	}
	err := error(unix.EMSGSIZE)
	switch {
	case p.n == 1:
		err = send(p.iovs, control)
	case p.size <= p.most:
		err = send(p.iovs, appendControl(slices.Clip(control), unix.SOL_UDP, udpSegment, 2, p.size))
	}
	if p.n > 1 && (err == unix.EIO || err == unix.EINVAL || err == unix.EMSGSIZE) {
		err = nil
		p.each(func(v *unix.Iovec) {
			if e := send(unsafe.Slice(v, 1), control); e != nil {
				err = e
			}
		})
	}
	if err != nil {
		r.flows.drops[dropSend].Add(1)
		if err == unix.ENETUNREACH || err == unix.EHOSTUNREACH {
			unreachable(r, p.from, p.orig)
		}
	}
	p.clear()
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
