package shim

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// maxReady is how many flows one system call reports.
const maxReady = 32

// collect takes what comes back to the flows, until the process ends. It is a
// thread of its own: a goroutine for each flow would be woken by way of Go's
// poller and scheduler.
func (r *relay) collect() {
	runtime.LockOSThread()
	b, err := newBatch()
	if err != nil {
		return
	}
	var packets injection
	events := make([]unix.EpollEvent, maxReady)
	for {
		n, err := unix.EpollWait(r.flows.ready, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		for i := range events[:n] {
			if f := r.flows.of(&events[i]); f != nil {
				r.backward(f, events[i].Events, b, &packets)
			}
		}
	}
}

// backward takes what has come back to a flow.
func (r *relay) backward(f *flow, events uint32, b *batch, packets *injection) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.fd < 0 {
		return
	}
	if events&unix.EPOLLERR != 0 {
		relayErrors(r, f) // an ICMP error has come: it is in the error queue
	}
	n, err := b.receive(f.fd, unix.MSG_DONTWAIT)
	if err != nil {
		return // an error is reported once
	}
	f.used.Store(time.Now().Unix())
	for i := range n {
		r.back(f, b, i, packets)
	}
	packets.flush(r)
}

// back hands a datagram, or several in one (UDP_GRO), to the program.
func (r *relay) back(f *flow, b *batch, i int, to *injection) {
	data, from := b.datagram(i), b.from(i)
	source, ok := r.source(f, from)
	if !ok {
		r.flows.drops[dropForeign].Add(1)
		return
	}
	switch f.key.kind {
	case flowPing, flowHostPing:
		backEcho(r, f, source.Addr(), data, to)
		return
	}
	size := len(data)
	eachControl(b.control(i), func(level, typ int32, v []byte) {
		if level == unix.SOL_UDP && typ == udpGRO && len(v) >= 4 {
			size = segmentSize(v, size)
		}
	})
	if size < len(data) && to.datagrams(r, source, f.key.from, data, size) {
		return
	}
	for {
		n := min(size, len(data))
		to.datagram(r, source, f.key.from, data[:n])
		if data = data[n:]; len(data) == 0 {
			return
		}
	}
}

// source returns the address as which the program knows a peer.
func (r *relay) source(f *flow, from netip.AddrPort) (netip.AddrPort, bool) {
	if !from.IsValid() {
		return from, false
	}
	switch f.key.kind {
	case flowHost:
		return f.key.to, true
	case flowMulticast, flowHostPing:
		return from, from.Addr().Is4()
	}
	if f.key.from.Addr().Is6() {
		return from, true
	}
	v4, ok := r.policy.Load().extract(from.Addr())
	return netip.AddrPortFrom(v4, from.Port()), ok
}

// look removes flows whose socket the program has closed, until the process
// ends.
func (r *relay) look() {
	for {
		time.Sleep(lookEvery)
		live := map[socketKey]bool{}
		r.thread.do(func() {
			for _, file := range []string{"udp", "udp6", "icmp"} {
				b, err := os.ReadFile("/proc/thread-self/net/" + file)
				if err != nil && !(file == "udp6" && errors.Is(err, os.ErrNotExist)) {
					live = nil
					return
				}
				readPorts(live, b, file == "icmp")
			}
		})
		if live != nil {
			r.flows.sweep(live, time.Now())
		}
	}
}

// listening reports whether a table such as /proc/net/tcp has a listening
// socket at a port.
func listening(table []byte, port uint16) bool {
	const listen = "0A"
	for line := range bytes.Lines(table) {
		fields := bytes.Fields(line)
		if len(fields) < 4 || string(fields[3]) != listen {
			continue
		}
		i := bytes.LastIndexByte(fields[1], ':')
		if i < 0 {
			continue
		}
		if p, err := strconv.ParseUint(string(fields[1][i+1:]), 16, 16); err == nil && uint16(p) == port {
			return true
		}
	}
	return false
}

const lookEvery = 5 * time.Second

// readPorts reads a table such as /proc/net/udp.
func readPorts(into map[socketKey]bool, table []byte, ping bool) {
	for line := range bytes.Lines(table) {
		fields := bytes.Fields(line)
		if len(fields) < 2 {
			continue
		}
		i := bytes.LastIndexByte(fields[1], ':')
		if i < 0 {
			continue
		}
		if port, err := strconv.ParseUint(string(fields[1][i+1:]), 16, 16); err == nil {
			into[socketKey{ping, uint16(port)}] = true
		}
	}
}
