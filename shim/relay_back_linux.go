package shim

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// batches are for what comes back: few are in use at a time.
var batches = sync.Pool{New: func() any {
	b, err := newBatch()
	if err != nil {
		return (*batch)(nil)
	}
	return b
}}

// backward takes what comes back to a flow, until it is closed.
func (r *relay) backward(f *flow) {
	var packets injection
	for {
		var b *batch
		var n int
		var err error
		rerr := f.conn.Read(func(fd uintptr) bool {
			if b == nil {
				if b = batches.Get().(*batch); b == nil {
					err = unix.ENOMEM
					return true
				}
			}
			n, err = b.receive(int(fd), unix.MSG_DONTWAIT)
			if err == unix.EAGAIN {
				batches.Put(b)
				b = nil
				return false
			}
			return true
		})
		if b == nil {
			return
		}
		if rerr == nil && err == nil {
			f.used.Store(time.Now().Unix())
			for i := range n {
				r.back(f, b, i, &packets)
			}
			packets.flush(r)
		}
		batches.Put(b)
		switch {
		case rerr != nil:
			return
		case err != nil:
			// An ICMP error has come: it is in the error queue.
			if !r.errors(f) && (err == unix.EBADF || err == unix.ENOMEM) {
				return
			}
		}
	}
}

// back hands a datagram, or several in one (UDP_GRO), to the program.
func (r *relay) back(f *flow, b *batch, i int, to *injection) {
	data, from := b.datagram(i), b.from(i)
	source, ok := r.source(f, from)
	if !ok {
		r.drops[dropForeign].Add(1)
		return
	}
	switch f.key.kind {
	case flowPing, flowHostPing:
		r.backEcho(f, source.Addr(), data, to)
		return
	}
	size := len(data)
	eachControl(b.control(i), func(level, typ int32, v []byte) {
		if level == unix.SOL_UDP && typ == udpGRO && len(v) >= 4 {
			if s := int(binary.NativeEndian.Uint32(v)); s > 0 {
				size = s
			}
		}
	})
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
		r.inside(func() {
			for _, file := range []string{"udp", "udp6", "icmp"} {
				b, err := os.ReadFile("/proc/thread-self/net/" + file)
				if err != nil && file != "udp6" {
					live = nil
					return
				}
				readPorts(live, b, file == "icmp")
			}
		})
		if live != nil {
			r.sweep(live, time.Now())
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

func (r *relay) sweep(live map[socketKey]bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, f := range r.flows {
		ping := key.kind == flowPing || key.kind == flowHostPing
		if !live[socketKey{ping, key.from.Port()}] && now.Sub(f.born) > lookEvery {
			r.drop(f)
		}
	}
}
