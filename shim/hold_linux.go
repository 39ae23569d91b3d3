package shim

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"tnat64d/siit"
)

// The TCP connections of a contained program: its SYN is held back until the
// server has answered the relay, so that a refused connection is refused, and
// one that nobody answers stays unanswered.

const (
	localMark    = 3 // on a SYN for a server of the program itself
	maxHeld      = 4096
	heldFor      = 10 * time.Second // between the server's answer and the program's
	dialTimeout  = 130 * time.Second
	flagSYN      = 0x02
	flagACK      = 0x10
	sizeofTCP    = 20
	etherTypeAll = 0x0003
)

// pair is a connection as the program sees it.
type pair struct{ from, to netip.AddrPort }

// holder takes the connections of a contained program.
type holder struct {
	r        *relay
	packets  int // packet socket that sees SYNs
	listener net.Listener
	onThread func(func()) // runs on the thread in the namespace

	mu   sync.Mutex
	held map[pair]*net.TCPConn // nil: being dialled
}

// synFilter passes TCP packets with SYN and without ACK, except the relay's own.
func synFilter() ([]bpf.RawInstruction, error) {
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtMark},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 13},
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x60, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 9, Size: 1}, // IPv4
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 8},
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 13, Size: 1},
		bpf.Jump{Skip: 3},
		bpf.LoadAbsolute{Off: 6, Size: 1}, // IPv6
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: sizeofIPv6 + 13, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: flagSYN | flagACK},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: flagSYN, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 0xffff},
	})
}

// openHolder opens the sockets, on the thread in the namespace. port is that of
// the listener.
func openHolder(r *relay) (h *holder, port uint16, err error) {
	h = &holder{r: r, held: map[pair]*net.TCPConn{}, onThread: r.thread.do}
	raw, err := synFilter()
	if err != nil {
		return nil, 0, err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, f := range raw {
		filter[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	h.packets, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, err
	}
	if err := unix.SetsockoptSockFprog(h.packets, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		return nil, 0, err
	}
	// Loopback shows each packet as it leaves and as it comes: only the latter counts.
	if err := unix.SetsockoptInt(h.packets, unix.SOL_PACKET, packetIgnoreOutgoing, 1); err != nil {
		return nil, 0, err
	}
	if err := unix.Bind(h.packets, &unix.SockaddrLinklayer{Protocol: ntohs(etherTypeAll), Ifindex: 1}); err != nil {
		return nil, 0, err
	}
	// One listener for both families: IPv4 clients have mapped addresses.
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	for _, o := range []struct{ level, opt, v int }{
		{unix.SOL_IPV6, unix.IPV6_V6ONLY, 0}, {unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}, {unix.SOL_IP, unix.IP_TRANSPARENT, 1},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.v); err != nil {
			return nil, 0, err
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{}); err != nil {
		return nil, 0, err
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return nil, 0, err
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	if h.listener, err = net.FileListener(file); err != nil {
		return nil, 0, err
	}
	return h, h.listener.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

const packetIgnoreOutgoing = 23

// run takes connections until the process ends.
func (h *holder) run() {
	go h.watch()
	go func() {
		for {
			c, err := h.listener.Accept()
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				time.Sleep(10 * time.Millisecond)
				continue
			}
			go h.serve(c.(*net.TCPConn))
		}
	}()
}

// watch sees the SYNs that nftables drops.
func (h *holder) watch() {
	b := make([]byte, 65536)
	for {
		n, _, err := unix.Recvfrom(h.packets, b, 0)
		switch err {
		case nil:
		case unix.EINTR, unix.ENOBUFS, unix.ENETDOWN:
			continue
		default:
			return
		}
		p, ok := parseSYN(b[:n])
		if !ok {
			continue
		}
		h.mu.Lock()
		_, known := h.held[p]
		full := len(h.held) >= maxHeld
		if !known && !full {
			h.held[p] = nil
		}
		h.mu.Unlock()
		if !known && !full {
			syn := append([]byte(nil), b[:n]...)
			go h.dial(p, syn)
		}
	}
}

// parseSYN reads the addresses of a TCP packet without IPv6 extension header.
func parseSYN(b []byte) (p pair, ok bool) {
	if len(b) < sizeofIPv4+sizeofTCP {
		return p, false
	}
	var tcp []byte
	var from, to netip.Addr
	switch b[0] >> 4 {
	case 4:
		head := int(b[0]&15) * 4
		if head < sizeofIPv4 || len(b) < head+sizeofTCP {
			return p, false
		}
		from, to, tcp = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:])), b[head:]
	case 6:
		if len(b) < sizeofIPv6+sizeofTCP {
			return p, false
		}
		from, to, tcp = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:])), b[sizeofIPv6:]
	default:
		return p, false
	}
	p.from = netip.AddrPortFrom(from, binary.BigEndian.Uint16(tcp))
	p.to = netip.AddrPortFrom(to, binary.BigEndian.Uint16(tcp[2:]))
	return p, true
}

// dial connects to where the program wants to, and answers its SYN.
func (h *holder) dial(p pair, syn []byte) {
	forget := func() {
		h.mu.Lock()
		delete(h.held, p)
		h.mu.Unlock()
	}
	if p.to.Addr().IsLoopback() || p.to.Addr() == hiddenIPv4 || p.to.Addr() == hiddenIPv6 {
		if h.listens(p.to.Port()) {
			h.reinject(p, syn, localMark)
			forget()
			return
		}
	}
	dest, ok := p.to, true
	if p.to.Addr().Is4() {
		t := h.r.policy.Load()
		switch d, _ := t.decide(p.to.Addr(), h.r.facts()); d {
		case Translate:
			six, _ := t.embed(p.to.Addr())
			dest = netip.AddrPortFrom(six, p.to.Port())
		case NoPrefix:
			ok = false
		}
	}
	if !ok {
		forget()
		h.refuse(p, syn, unix.ENETUNREACH)
		return
	}
	c, err := (&net.Dialer{Timeout: dialTimeout}).Dial("tcp", dest.String())
	if err != nil {
		forget()
		h.refuse(p, syn, err)
		return
	}
	conn := c.(*net.TCPConn)
	h.mu.Lock()
	h.held[p] = conn
	h.mu.Unlock()
	time.AfterFunc(heldFor, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.held[p] == conn {
			conn.SetLinger(0)
			conn.Close()
			delete(h.held, p)
		}
	})
	h.reinject(p, syn, relayMark)
}

// listens reports whether the program itself has a server at a port.
func (h *holder) listens(port uint16) (yes bool) {
	h.onThread(func() {
		for _, file := range []string{"tcp", "tcp6"} {
			if b, err := os.ReadFile("/proc/thread-self/net/" + file); err == nil && listening(b, port) {
				yes = true
			}
		}
	})
	return yes
}

// reinject sends a held SYN on its way.
func (h *holder) reinject(p pair, syn []byte, mark int) {
	fd := h.r.out4
	if p.to.Addr().Is6() {
		fd = h.r.out6
	}
	if mark != relayMark {
		// The mark belongs to the socket: another one.
		family := unix.AF_INET
		if p.to.Addr().Is6() {
			family = unix.AF_INET6
		}
		h.onThread(func() {
			s, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			if err != nil {
				return
			}
			defer unix.Close(s)
			unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_MARK, mark)
			fixTCP(syn)
			unix.Sendto(s, syn, 0, sockaddr(netip.AddrPortFrom(p.to.Addr(), 0)))
		})
		return
	}
	fixTCP(syn)
	unix.Sendto(fd, syn, 0, sockaddr(netip.AddrPortFrom(p.to.Addr(), 0)))
}

// refuse answers a held SYN by the error that the relay has met. A timeout is
// not answered: the program has had its own.
func (h *holder) refuse(p pair, syn []byte, err error) {
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return
	}
	if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ECONNRESET) && p.from.Addr().Is4() {
		code := byte(1) // host unreachable
		if errors.Is(err, unix.ENETUNREACH) {
			code = 0
		}
		injectError(h.r, p.from.Addr(), siit.DummyIPv4, icmpUnreachable, code, 0, syn[:min(len(syn), sizeofIPv4+sizeofUDP)])
		return
	}
	var j injection
	j.packet(h.r, p.from.Addr(), nil, func(head []byte) int { return putReset(head, p, syn) })
	j.flush(h.r)
}

// putReset writes the reset that answers a SYN (RFC 9293 section 3.10.7.1).
func putReset(b []byte, p pair, syn []byte) int {
	n := sizeofIPv4
	seq := syn[int(syn[0]&15)*4:]
	if p.to.Addr().Is6() {
		n, seq = sizeofIPv6, syn[sizeofIPv6:]
		putIPv6(b, p.to.Addr(), p.from.Addr(), unix.IPPROTO_TCP, sizeofTCP)
	} else {
		putIPv4(b, p.to.Addr(), p.from.Addr(), unix.IPPROTO_TCP, sizeofTCP)
	}
	t := b[n : n+sizeofTCP]
	clear(t)
	binary.BigEndian.PutUint16(t, p.to.Port())
	binary.BigEndian.PutUint16(t[2:], p.from.Port())
	binary.BigEndian.PutUint32(t[8:], binary.BigEndian.Uint32(seq[4:])+1)
	t[12], t[13] = sizeofTCP/4<<4, 0x04|flagACK
	fixTCP(b[:n+sizeofTCP])
	return n + sizeofTCP
}

// fixTCP computes the TCP checksum of a packet: loopback leaves it out.
func fixTCP(b []byte) {
	var from, to netip.Addr
	head := sizeofIPv6
	if b[0]>>4 == 4 {
		head = int(b[0]&15) * 4
		from, to = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	} else {
		from, to = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	}
	t := b[head:]
	t[16], t[17] = 0, 0
	s := siit.PseudoHeaderSum(from, to, len(t), unix.IPPROTO_TCP)
	binary.BigEndian.PutUint16(t[16:], ^siit.Sum(t, s))
}

// serve joins a connection of the program with the one that was dialled for it.
func (h *holder) serve(c *net.TCPConn) {
	unmapped := func(a net.Addr) netip.AddrPort {
		p := a.(*net.TCPAddr).AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
	}
	p := pair{unmapped(c.RemoteAddr()), unmapped(c.LocalAddr())}
	h.mu.Lock()
	d := h.held[p]
	delete(h.held, p)
	h.mu.Unlock()
	if d == nil {
		c.SetLinger(0)
		c.Close()
		return
	}
	join(c, d)
}

// join copies both ways until both have ended. What ends by a reset ends so on
// the other side.
func join(a, b *net.TCPConn) {
	var wait sync.WaitGroup
	copyTo := func(to, from *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil {
			to.SetLinger(0)
			from.SetLinger(0)
			to.Close()
			from.Close()
			return
		}
		to.CloseWrite()
	}
	wait.Go(func() { copyTo(a, b) })
	copyTo(b, a)
	wait.Wait()
	a.Close()
	b.Close()
}
