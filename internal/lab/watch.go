package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Sent is a packet that left an interface, the first of its kind.
type Sent struct {
	EtherType           uint16     // 0x86dd for IPv6, 0x0800 for IPv4
	Source, Destination netip.Addr // of IPv6 and IPv4; invalid otherwise
}

func (s Sent) String() string {
	if !s.Source.IsValid() {
		return fmt.Sprintf("ethertype %#04x", s.EtherType)
	}
	return fmt.Sprintf("%s -> %s", s.Source, s.Destination)
}

// Watch sees every packet that leaves an interface and keeps one of each
// source, so that it costs next to nothing when gigabytes pass: once a source
// is known, a filter in the kernel sorts its packets out. Packets that are not
// IPv6 are all kept, up to a bound.
type Watch struct {
	file *os.File
	done chan struct{}

	mu   sync.Mutex
	sent []Sent
	err  error
}

// watchLimit bounds what a Watch keeps, and with it the length of its filter.
const watchLimit = 200

// Watch begins to watch what leaves the host's interface.
func (h *Host) Watch(ifname string) (*Watch, error) {
	w := &Watch{done: make(chan struct{})}
	if err := h.Do(func() error { return w.open(h, ifname) }); err != nil {
		return nil, fmt.Errorf("watch %s:%s: %w", h.Name, ifname, err)
	}
	conn, err := w.file.SyscallConn()
	if err != nil {
		w.file.Close()
		return nil, fmt.Errorf("watch %s:%s: %w", h.Name, ifname, err)
	}
	go func() {
		defer close(w.done)
		w.run(conn)
	}()
	return w, nil
}

// open makes the packet socket. It hears nothing until it is bound, which is
// after the filter is in place.
func (w *Watch) open(h *Host, ifname string) error {
	l, err := h.Netlink.LinkByName(ifname)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	everything := uint16(unix.ETH_P_ALL)
	err = steps(
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) },
		func() error { return attachFilter(fd, nil) },
		func() error {
			return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything<<8 | everything>>8, Ifindex: l.Attrs().Index})
		},
	)
	if err != nil {
		unix.Close(fd)
		return err
	}
	w.file = os.NewFile(uintptr(fd), "packet socket")
	return nil
}

// attachFilter lets through packets that leave, except IPv6 ones from the
// known sources.
func attachFilter(fd int, known []netip.Addr) error {
	const everything = 128 // bytes of each packet: the headers
	prog := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: 1},
		bpf.RetConstant{Val: everything},
	}
	for _, src := range known {
		b := src.As16()
		for word := range 4 {
			prog = append(prog,
				bpf.LoadAbsolute{Off: uint32(8 + 4*word), Size: 4},
				// On to the next source: over the rest of this one.
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[4*word:]), SkipTrue: uint8(2*(3-word) + 1)},
			)
		}
		prog = append(prog, bpf.RetConstant{Val: 0})
	}
	raw, err := bpf.Assemble(append(prog, bpf.RetConstant{Val: everything}))
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

func (w *Watch) run(conn syscall.RawConn) {
	buf := make([]byte, 128)
	var known []netip.Addr
	seen := make(map[netip.Addr]bool)
	for {
		var n int
		var from unix.Sockaddr
		var err error
		readErr := conn.Read(func(fd uintptr) bool {
			n, from, err = unix.Recvfrom(int(fd), buf, 0)
			return err != unix.EAGAIN
		})
		if readErr != nil {
			return // closed
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok {
			continue // ENETDOWN: the interface went down, and may come back
		}
		s := decodeSent(ll.Protocol<<8|ll.Protocol>>8, buf[:n])
		if s.EtherType == unix.ETH_P_IPV6 {
			if seen[s.Source] {
				continue // it was in the queue before the filter was
			}
			seen[s.Source] = true
			known = append(known, s.Source)
			conn.Control(func(fd uintptr) { err = attachFilter(int(fd), known) })
		}
		w.mu.Lock()
		w.err = errors.Join(w.err, err)
		if len(w.sent) < watchLimit {
			w.sent = append(w.sent, s)
		} else if w.err == nil {
			w.err = fmt.Errorf("more than %d sources or packets that are not IPv6", watchLimit)
		}
		w.mu.Unlock()
		if len(known) >= watchLimit {
			return
		}
	}
}

func decodeSent(etherType uint16, packet []byte) Sent {
	s := Sent{EtherType: etherType}
	switch {
	case etherType == unix.ETH_P_IPV6 && len(packet) >= 40:
		s.Source, _ = netip.AddrFromSlice(packet[8:24])
		s.Destination, _ = netip.AddrFromSlice(packet[24:40])
	case etherType == unix.ETH_P_IP && len(packet) >= 20:
		s.Source, _ = netip.AddrFromSlice(packet[12:16])
		s.Destination, _ = netip.AddrFromSlice(packet[16:20])
	}
	return s
}

// Sent returns what has been seen so far.
func (w *Watch) Sent() []Sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Sent(nil), w.sent...)
}

// Close ends the watch and returns what it saw; the error says that it may
// have missed something.
func (w *Watch) Close() ([]Sent, error) {
	var stats *unix.TpacketStats
	var err error
	if conn, connErr := w.file.SyscallConn(); connErr == nil {
		conn.Control(func(fd uintptr) {
			stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
		})
	}
	w.file.Close()
	<-w.done
	if err == nil && stats != nil && stats.Drops > 0 {
		err = fmt.Errorf("%d packets went by unseen", stats.Drops)
	}
	if err = errors.Join(w.err, err); err != nil {
		err = fmt.Errorf("watch: %w", err)
	}
	return w.sent, err
}
