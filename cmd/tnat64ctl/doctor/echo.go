package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tnat64d/siit"
)

// errNoEcho: this user may not send ICMP echoes.
var errNoEcho = errors.New("needs root, or a group in net.ipv4.ping_group_range")

// Echo sizes, in bytes.
const (
	icmpHeaderLen = 8
	tokenLen      = 8
	ipv6HeaderLen = 40
	ipv4HeaderLen = 20
	smallPayload  = 56 // as ping sends by default
)

// ICMP types.
const (
	icmp6EchoRequest = 128
	icmp6EchoReply   = 129
	icmp4EchoRequest = 8
	icmp4EchoReply   = 0
)

// echoer sends ICMP or ICMPv6 echo requests, none of which is ever fragmented,
// and hears the replies and the ICMP errors about them. It uses a ping socket
// where the user may have one, or else a raw socket.
type echoer struct {
	file  *os.File
	conn  syscall.RawConn
	v6    bool
	raw   bool
	id    uint16
	token [tokenLen]byte // in every request, so that replies to others are told apart
	buf   []byte
	oob   []byte
}

// openEcho returns an echoer. Packets leave by the interface ifindex unless it
// is 0, and have the given source unless it is invalid.
func openEcho(v6 bool, ifindex int, source netip.Addr) (*echoer, error) {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if v6 {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	e := &echoer{v6: v6, buf: make([]byte, 1<<16), oob: make([]byte, 512)}
	rand.Read(e.token[:])
	e.id = binary.BigEndian.Uint16(e.token[:])
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|flags, proto)
	if errors.Is(err, os.ErrPermission) {
		e.raw = true
		fd, err = unix.Socket(family, unix.SOCK_RAW|flags, proto)
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, errNoEcho
	}
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := e.configure(fd, ifindex, source); err != nil {
		unix.Close(fd)
		return nil, err
	}
	e.file = os.NewFile(uintptr(fd), "echo")
	if e.conn, err = e.file.SyscallConn(); err != nil {
		e.file.Close()
		return nil, err
	}
	return e, nil
}

// configure sets the socket's options.
func (e *echoer) configure(fd, ifindex int, source netip.Addr) error {
	type option struct{ level, name, value int }
	options := []option{{unix.IPPROTO_IP, unix.IP_RECVERR, 1}, {unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE}}
	if e.v6 {
		options = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1},
			// The host may remember a path MTU; we want to see the network's.
			{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
		}
	}
	if ifindex != 0 {
		options = append(options, option{unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, ifindex})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if e.raw && e.v6 {
		// Set bits block.
		filter := unix.ICMPv6Filter{Data: [8]uint32{^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0)}}
		filter.Data[icmp6EchoReply>>5] &^= 1 << (icmp6EchoReply & 31)
		if err := unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if source.IsValid() {
		if err := unix.Bind(fd, sockaddr(source, ifindex)); err != nil {
			return fmt.Errorf("send from %s: %w", source, os.NewSyscallError("bind", err))
		}
	}
	return nil
}

func (e *echoer) close() { e.file.Close() }

func sockaddr(a netip.Addr, ifindex int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	sa := &unix.SockaddrInet6{Addr: a.As16()}
	if a.IsLinkLocalUnicast() {
		sa.ZoneId = uint32(ifindex)
	}
	return sa
}

// echo is what became of the requests of one size.
type echo struct {
	size     int // of the IP packet; 0: small
	replied  bool
	time     time.Duration
	tooBig   int        // the MTU that a Packet Too Big named
	reporter netip.Addr // who sent it; the host itself if the link is too small
	why      string     // the last other error
	sent     time.Time
}

// schedule says how often and how patiently a request is sent.
type schedule struct {
	tries int
	wait  time.Duration // after each
}

var (
	ordinary = schedule{3, 700 * time.Millisecond}
	hasty    = schedule{2, 600 * time.Millisecond}
)

// ping sends requests of all sizes at once, repeats those that got neither
// reply nor Packet Too Big, and returns what became of each.
func (e *echoer) ping(ctx context.Context, dst netip.Addr, ifindex int, s schedule, sizes ...int) []echo {
	echoes := make([]echo, len(sizes))
	for i := range sizes {
		echoes[i].size = sizes[i]
	}
	stop := context.AfterFunc(ctx, func() { e.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for range s.tries {
		for i := range echoes {
			if !echoes[i].done() {
				e.request(&echoes[i], i, dst, ifindex)
			}
		}
		e.file.SetReadDeadline(time.Now().Add(s.wait))
		if ctx.Err() != nil {
			break
		}
		for !allDone(echoes) {
			if err := e.receive(echoes, dst); err != nil {
				break // the deadline, most often
			}
		}
		if allDone(echoes) || ctx.Err() != nil {
			break
		}
	}
	return echoes
}

func (e echo) done() bool { return e.replied || e.tooBig != 0 }

func allDone(es []echo) bool {
	for _, e := range es {
		if !e.done() {
			return false
		}
	}
	return true
}

const noAnswer = "no answer"

// probe is the outcome of a single size.
func (e echo) probe() Probe {
	switch {
	case e.replied:
		return Probe{Tested: true, OK: true, Time: e.time}
	case e.tooBig != 0:
		return Probe{Tested: true, Why: fmt.Sprintf("%s says that it is too big", e.reporter)}
	case e.why != "":
		return Probe{Tested: true, Why: e.why}
	}
	return Probe{Tested: true, Why: noAnswer}
}

// request sends echo number i.
func (e *echoer) request(ec *echo, i int, dst netip.Addr, ifindex int) {
	header := ipv4HeaderLen
	if e.v6 {
		header = ipv6HeaderLen
	}
	payload := smallPayload
	if ec.size != 0 {
		payload = max(ec.size-header-icmpHeaderLen, tokenLen)
	}
	m := make([]byte, icmpHeaderLen+payload)
	m[0] = icmp4EchoRequest
	if e.v6 {
		m[0] = icmp6EchoRequest
	}
	binary.BigEndian.PutUint16(m[4:], e.id)
	binary.BigEndian.PutUint16(m[6:], uint16(i))
	copy(m[icmpHeaderLen:], e.token[:])
	if !e.v6 {
		binary.BigEndian.PutUint16(m[2:], ^siit.Sum(m, 0)) // for IPv6 the kernel does it
	}
	ec.sent = time.Now()
	var err error
	e.conn.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), m, 0, sockaddr(dst, ifindex))
		return err != unix.EAGAIN
	})
	// EMSGSIZE comes with a report in the error queue, too.
	if err != nil && err != unix.EMSGSIZE {
		ec.why = err.Error()
	}
}

// receive waits for one message and enters it. An error means that the time is
// over.
func (e *echoer) receive(echoes []echo, dst netip.Addr) error {
	return e.conn.Read(func(fd uintptr) bool {
		if n, oobn, _, _, err := unix.Recvmsg(int(fd), e.buf, e.oob, unix.MSG_ERRQUEUE); err == nil {
			e.trouble(echoes, e.buf[:n], e.oob[:oobn])
			return true
		}
		n, from, err := unix.Recvfrom(int(fd), e.buf, 0)
		if err != nil {
			// Anything else is the error that the queue has told about.
			return err != unix.EAGAIN
		}
		e.reply(echoes, e.buf[:n], from, dst)
		return true
	})
}

// reply enters the echo reply m.
func (e *echoer) reply(echoes []echo, m []byte, from unix.Sockaddr, dst netip.Addr) {
	if e.raw && !e.v6 { // comes with the IPv4 header
		if len(m) < ipv4HeaderLen {
			return
		}
		m = m[min(int(m[0]&15)*4, len(m)):]
	}
	want := byte(icmp4EchoReply)
	if e.v6 {
		want = icmp6EchoReply
	}
	if len(m) < icmpHeaderLen || m[0] != want || addrOf(from) != dst.WithZone("") {
		return
	}
	if i, ok := e.ours(m, len(echoes)); ok && !echoes[i].replied {
		echoes[i].replied, echoes[i].time = true, time.Since(echoes[i].sent)
	}
}

// ours returns the number of the echo in the ICMP message m.
func (e *echoer) ours(m []byte, n int) (int, bool) {
	if len(m) < icmpHeaderLen+tokenLen || !bytes.Equal(m[icmpHeaderLen:][:tokenLen], e.token[:]) {
		return 0, false
	}
	i := int(binary.BigEndian.Uint16(m[6:]))
	return i, i < n
}

// trouble enters an ICMP error, or one of the host itself, about the request
// that m begins with.
func (e *echoer) trouble(echoes []echo, m, oob []byte) {
	if e.v6 && e.raw && len(m) >= ipv6HeaderLen && m[0]>>4 == 6 {
		m = m[ipv6HeaderLen:]
	}
	i, ok := e.ours(m, len(echoes))
	if !ok {
		return
	}
	cms, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, cm := range cms {
		v6 := cm.Header.Level == unix.IPPROTO_IPV6 && cm.Header.Type == unix.IPV6_RECVERR
		v4 := cm.Header.Level == unix.IPPROTO_IP && cm.Header.Type == unix.IP_RECVERR
		if x, ok := parseExtendedError(cm.Data); ok && (v4 || v6) {
			echoes[i].fail(x)
		}
	}
}

func addrOf(sa unix.Sockaddr) netip.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr)
	}
	return netip.Addr{}
}
