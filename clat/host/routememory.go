package host

import (
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tnat64d/clat/plan"
)

const (
	// manyRoutes is from how many on routes are remembered: a dump of so many
	// takes 5 ms, and where there are 200,000 (a router with the table of the
	// whole Internet) some of them change all the time.
	manyRoutes = 4096
	// quiet is how long nothing must have happened to links, addresses, rules
	// and default routes before anything is remembered: of some changes the
	// kernel tells before it makes them.
	quiet = time.Second
	// believed is how long what is remembered is believed, for the case that
	// the kernel does not tell of a change.
	believed = time.Minute
	// maxFollowed bounds how many destinations are told apart.
	maxFollowed = 64
	// memoryBuffer is how many bytes of messages may wait for the next look;
	// if there are more everything counts as changed.
	memoryBuffer = 1 << 20
)

// routeMemory remembers what has been asked about routes until the kernel says
// that the answer may have changed. Routes that are neither default routes nor
// lead to a destination in question do not count.
type routeMemory struct {
	socket *nl.NetlinkSocket // nil: there are few routes, and nothing is remembered
	ways   ways
	known  bool
	asOf   time.Time // when everything was last forgotten
	heard  time.Time // when the last change of everything was heard of

	// Each change has a number. all is that of the last change of everything,
	// and to those of what was last heard of routes to a destination.
	serial, all uint64
	to          map[netip.Prefix]uint64
}

// recall returns what has been found if it is known. Networks on a link may have
// changed since.
func (m *routeMemory) recall() (ways, bool) {
	if m.socket == nil {
		return ways{}, false
	}
	m.listen()
	if time.Since(m.asOf) >= believed {
		m.forget()
	}
	return m.ways.clone(), m.known
}

// remember takes what has been found among all routes of the host, after recall.
func (m *routeMemory) remember(w ways, all int) {
	switch {
	case m.socket != nil:
		if time.Since(m.heard) >= quiet {
			m.ways, m.known = w.clone(), true
		}
	case all >= manyRoutes:
		s, err := nl.Subscribe(unix.NETLINK_ROUTE,
			unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_IFINFO,
			unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NEXTHOP)
		if err != nil {
			return // it goes on as it was
		}
		// Without a larger buffer everything counts as changed more often.
		_ = s.SetReceiveBufferSize(memoryBuffer, true)
		m.socket, m.to = s, map[netip.Prefix]uint64{}
		m.forget()
	}
}

// state returns a generation number that changes whenever routes to dst or a part
// of it, or what they depend on, may have changed before the last recall.
func (m *routeMemory) state(dst netip.Prefix) uint64 {
	if m.socket == nil || time.Since(m.heard) < quiet {
		m.serial++
		return m.serial
	}
	if _, known := m.to[dst]; !known {
		if len(m.to) >= maxFollowed {
			clear(m.to)
		}
		m.serial++
		m.to[dst] = m.serial
	}
	return max(m.all, m.to[dst])
}

func (m *routeMemory) forget() {
	m.serial++
	m.all, m.known, m.ways, m.asOf = m.serial, false, ways{}, time.Now()
}

// listen reads what the kernel has said since the last time.
func (m *routeMemory) listen() {
	b := make([]byte, nl.RECEIVE_BUFFER_SIZE)
	for range memoryBuffer { // more than can wait
		n, _, err := unix.Recvfrom(m.socket.GetFd(), b, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		msgs, parseErr := syscall.ParseNetlinkMessage(b[:max(n, 0)])
		if err != nil || parseErr != nil {
			m.hear(nil) // messages were lost
			continue
		}
		for _, msg := range msgs {
			m.hear(&msg)
		}
	}
}

// hear takes in one message, or nil for those that were lost.
func (m *routeMemory) hear(msg *syscall.NetlinkMessage) {
	if msg == nil || msg.Header.Type != unix.RTM_NEWROUTE && msg.Header.Type != unix.RTM_DELROUTE || len(msg.Data) < unix.SizeofRtMsg {
		m.heard = time.Now()
		m.forget()
		return
	}
	head := nl.DeserializeRtMsg(msg.Data)
	if head.Dst_len == 0 || head.Family == unix.AF_INET && head.Dst_len < plan.MinNetwork {
		m.heard = time.Now()
		m.forget()
		return
	}
	if head.Family != unix.AF_INET6 || len(m.to) == 0 {
		return
	}
	attrs, _ := nl.ParseRouteAttr(msg.Data[unix.SizeofRtMsg:])
	for _, at := range attrs {
		if at.Attr.Type != unix.RTA_DST {
			continue
		}
		a, _ := netip.AddrFromSlice(at.Value)
		p := netip.PrefixFrom(a, int(head.Dst_len))
		for dst := range m.to {
			if p.Overlaps(dst) {
				m.serial++
				m.to[dst] = m.serial
			}
		}
	}
}

func (m *routeMemory) close() {
	if m.socket != nil {
		m.socket.Close()
	}
}

// RouteState returns a generation number that changes whenever routes to dst or a
// part of it, or what they depend on, may have changed before the last Observe.
func (k *routes) RouteState(dst netip.Prefix) uint64 { return k.memory.state(dst) }
