package shim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	osexec "os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// One test for each file sys_*_linux.go: the call in a program, with what the
// kernel's own would do as the measure.

var _ = act("socket", func() error {
	s, u := tcp(), udp()
	n, err := localName(s)
	_, bad := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 200)
	flags, _ := fileStatus(open(unix.SOCK_STREAM | unix.SOCK_NONBLOCK))
	return first(err, expect("domain", domain(s), unix.AF_INET), expect("domain of UDP", domain(u), unix.AF_INET),
		expect("name", n, netip.MustParseAddrPort("0.0.0.0:0")), expect("a protocol that is none", bad, error(unix.EPROTONOSUPPORT)),
		expect("O_NONBLOCK", flags&unix.O_NONBLOCK, unix.O_NONBLOCK))
})

func TestSocket(t *testing.T) { underShim(t, "socket") }

var _ = act("connect", func() error {
	// The answer to a thread that has just been told that its socket is
	// connected is the same once more: see restartWithin.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s, again := tcp(), tcp()
	if err := failed("connect", dial(s)); err != nil {
		return err
	}
	u := udp()
	return first(failed("echo", echo(s)), expect("peer", peer(s), echoPort), expect("second connect", onAnotherThread(func() error { return dial(s) }), error(unix.EISCONN)),
		expect("refused", connectTo(again, netip.AddrPortFrom(testServer, 9)), error(unix.ECONNREFUSED)),
		failed("connect after a failure", dial(again)), failed("UDP", dial(u)), failed("UDP", echo(u)), expect("peer of UDP", peer(u), echoPort),
		expect("no descriptor", connectTo(999, echoPort), error(unix.EBADF)))
})

// onAnotherThread runs f on a thread that is not the caller's, which is locked.
func onAnotherThread(f func() error) error {
	done := make(chan error)
	go func() { done <- f() }()
	return <-done
}

func TestConnect(t *testing.T) { underShim(t, "connect") }

// A program may have given up IPv6, by a seccomp filter for example: its AF_INET
// sockets refuse IPv6 names although they are AF_INET6 sockets.
var _ = act("other-names", func() error {
	six := &unix.SockaddrInet6{Port: 7, Addr: testPREF64.Addr().As16()}
	v4 := testServer.As4()
	copy(six.Addr[12:], v4[:]) // the server, by IPv6
	fresh, connected, unusable, bound := tcp(), tcp(), tcp(), tcp()
	refused := connectTo(unusable, netip.AddrPortFrom(testServer, 9))
	if err := first(failed("connect", dial(connected)), expect("refused", refused, error(unix.ECONNREFUSED))); err != nil {
		return err
	}
	_, fastOpen := unix.SendmsgN(tcp(), []byte("x"), nil, six, msgFastOpen)
	out, _, _ := messages(1, netip.AddrPortFrom(netip.AddrFrom16(six.Addr), 7))
	_, _, several := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(tcp()), uintptr(unsafe.Pointer(&out[0])), 1, msgFastOpen, 0, 0)
	u := udp()
	if err := unix.Sendto(u, []byte("x"), 0, sockaddr(echoPort)); err != nil {
		return failed("sendto", err)
	}
	var unspecified unix.RawSockaddr
	_, _, disconnect := unix.RawSyscall(unix.SYS_CONNECT, uintptr(connected), uintptr(unsafe.Pointer(&unspecified)), unsafe.Sizeof(unspecified))
	_, _, wild := unix.RawSyscall(unix.SYS_CONNECT, uintptr(tcp()), 1, unix.SizeofSockaddrInet6)
	mapped, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	return first(err, expect("connect", unix.Connect(fresh, six), error(unix.EAFNOSUPPORT)),
		expect("connect after a failure", unix.Connect(unusable, six), error(unix.EAFNOSUPPORT)),
		expect("bind", unix.Bind(bound, &unix.SockaddrInet6{}), error(unix.EAFNOSUPPORT)),
		expect("bind to a port", unix.Bind(fresh, &unix.SockaddrInet6{Port: 4711}), error(unix.EAFNOSUPPORT)),
		expect("bind after a failure", unix.Bind(unusable, &unix.SockaddrInet6{Port: 4711}), error(unix.EAFNOSUPPORT)),
		expect("TCP Fast Open", fastOpen, error(unix.EAFNOSUPPORT)), expect("TCP Fast Open by sendmmsg", several, unix.EAFNOSUPPORT),
		expect("sendto", unix.Sendto(u, []byte("x"), 0, six), error(unix.EAFNOSUPPORT)), expect("a wild name", wild, unix.EFAULT),
		expect("disconnect", disconnect, 0), failed("connect again", dial(connected)), failed("echo", echo(connected)),
		failed("connect of an AF_INET6 socket", unix.Connect(mapped, six)), failed("echo", echo(mapped)))
})

func TestIPv6NamesOnIPv4Sockets(t *testing.T) { underShim(t, "other-names") }

// What the supervisor of root opens belongs to whoever the program is by then.
var _ = act("owner", func() error {
	if unix.Getuid() != 0 {
		return nil
	}
	runtime.LockOSThread()
	// Of this thread alone, as in file servers.
	if err := unix.Setfsuid(4711); err != nil {
		return err
	}
	if got, _ := unix.SetfsuidRetUid(4711); got != 4711 {
		return nil // a user namespace that has no other user
	}
	unix.Setfsgid(4712)
	// A firewall rule looks at the credentials with which the socket was opened.
	if err := onlyFrom(4711, 4712); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	s := tcp()
	var st unix.Stat_t
	if err := first(failed("connect", dial(s)), unix.Fstat(s, &st)); err != nil {
		return err
	}
	by, err := ownerByStatus(unix.Gettid())
	return first(err, failed("echo", echo(s)), expect("owner", owner{int(st.Uid), int(st.Gid)}, owner{4711, 4712}), expect("owner by status", by, owner{4711, 4712}))
})

// onlyFrom makes the kernel reset TCP connections to port 7 from sockets of others than
// that user and group.
func onlyFrom(uid, gid uint32) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv6, Name: "t"})
	chain := c.AddChain(&nftables.Chain{Name: "c", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter})
	for key, id := range map[expr.MetaKey]uint32{expr.MetaKeySKUID: uid, expr.MetaKeySKGID: gid} {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0, 7}},
			&expr.Meta{Key: key, Register: 1},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, id)},
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
		}})
	}
	return c.Flush()
}

func TestSocketsBelongToTheProgramsUser(t *testing.T) { underShim(t, "owner") }

var _ = act("listen", func() error {
	l, c := tcp(), tcp()
	if err := first(unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(l, 5)); err != nil {
		return err
	}
	at, err := localName(l)
	if err = first(err, connectTo(c, at)); err != nil {
		return err
	}
	a, from, err := unix.Accept(l)
	if err != nil {
		return err
	}
	own, _ := localName(c)
	any := tcp()
	err = first(failed("listen without bind", unix.Listen(any, 5)))
	n, _ := localName(any)
	return first(err, expect("client", addrPort(from), own), expect("server", peer(c), at), expect("domain", domain(a), unix.AF_INET),
		expect("address of an unbound listener", n.Addr(), netip.IPv4Unspecified()),
		expect("connect of a listener", dial(any), error(unix.EISCONN)), expect("it listens", listens(any), true))
})

func TestBindAndListen(t *testing.T) { underShim(t, "listen") }

var _ = act("names", func() error {
	s := tcp()
	_, before := unix.Getpeername(s)
	if err := dial(s); err != nil {
		return err
	}
	n, err := localName(s)
	var short [28]byte
	var size uint32
	var e unix.Errno
	for range 3 {
		// A call that is answered and interrupted at once is restarted with the
		// length that the answer has left (Linux before 6.17).
		short, size = [28]byte{}, 7
		if _, _, e = unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(s), uintptr(unsafe.Pointer(&short)), uintptr(unsafe.Pointer(&size))); short[7] == 0 {
			break
		}
	}
	negative := int32(-1)
	_, _, e2 := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(s), uintptr(unsafe.Pointer(&short)), uintptr(unsafe.Pointer(&negative)))
	_, _, e3 := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(s), 1, uintptr(unsafe.Pointer(&size)))
	return first(err, expect("before", before, error(unix.ENOTCONN)), expect("own", n.Addr().Is4() && n.Port() > 0, true), expect("short", e, 0),
		expect("length", size, uint32(unix.SizeofSockaddrInet4)), expect("cut", short[7], 0), expect("negative", e2, unix.EINVAL), expect("wild", e3, unix.EFAULT))
})

func TestGetpeernameGetsockname(t *testing.T) { underShim(t, "names") }

var _ = act("getsockopt", func() error {
	s := tcp()
	if err := dial(s); err != nil {
		return err
	}
	var v int32
	size, err := rawGetsockopt(s, unix.SOL_SOCKET, unix.SO_DOMAIN, unsafe.Pointer(&v), 2)
	_, long := rawGetsockopt(s, unix.SOL_SOCKET, unix.SO_DOMAIN, unsafe.Pointer(&v), 1<<31)
	return first(err, expect("domain", v, unix.AF_INET), expect("size", size, 2), expect("negative size", long, error(unix.EINVAL)))
})

func TestGetsockopt(t *testing.T) { underShim(t, "getsockopt") }

var _ = act("setsockopt", func() error {
	s := tcp()
	err := first(setInt(s, unix.SOL_TCP, unix.TCP_KEEPIDLE, 33), setInt(s, unix.SOL_IP, unix.IP_TOS, 0x20),
		unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 9}))
	if err = first(err, dial(s)); err != nil {
		return err
	}
	class, err := getInt(s, unix.SOL_IPV6, unix.IPV6_TCLASS)
	idle, err2 := getInt(s, unix.SOL_TCP, unix.TCP_KEEPIDLE)
	v, err3 := sendTimeout(s)
	later := setInt(s, unix.SOL_IP, unix.IP_TOS, 0x40)
	class2, _ := getInt(s, unix.SOL_IPV6, unix.IPV6_TCLASS)
	return first(err, err2, err3, later, expect("traffic class", class, 0x20), expect("keep-alive", idle, 33), expect("timeout", v.Sec, 9), expect("traffic class", class2, 0x40), echo(s))
})

func TestSetsockopt(t *testing.T) { underShim(t, "setsockopt") }

var _ = act("datagrams", func() error {
	u := udp()
	b := make([]byte, 100)
	err := sendOne(u)
	if _, e := unix.SendmsgN(u, []byte("two"), nil, sockaddr(echoPort), 0); e != nil {
		return failed("sendmsg", e)
	}
	n, _, flags, from, e := unix.Recvmsg(u, b[:2], nil, 0)
	return first(err, failed("recvmsg", e), expect("cut data", string(b[:max(n, 0)]), "tw"), expect("MSG_TRUNC", flags&unix.MSG_TRUNC, unix.MSG_TRUNC), expect("source", addrPort(from), echoPort),
		expect("wild", wildSendto(u), unix.EFAULT))
})

// sendOne has the echo service send back a datagram, and checks it.
func sendOne(fd int) error {
	if err := unix.Sendto(fd, []byte("one"), 0, sockaddr(echoPort)); err != nil {
		return failed("sendto", err)
	}
	return receiveOne(fd)
}

// receiveOne checks the datagram that the echo service sends back, and its source.
func receiveOne(fd int) error {
	b := make([]byte, 100)
	n, from, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return failed("recvfrom", err)
	}
	return first(expect("data", string(b[:n]), "one"), expect("source", addrPort(from), echoPort))
}

// wildSendto sends what is not there.
func wildSendto(fd int) unix.Errno {
	var sa unix.RawSockaddrInet6
	size := rawName(&sa, echoPort)
	_, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), 8, 100, 0, uintptr(unsafe.Pointer(&sa)), uintptr(size))
	return e
}

func TestSendtoSendmsgRecvfromRecvmsg(t *testing.T) { underShim(t, "datagrams") }

// A socket that is bound to a port before it is connected shows IPv4 names, and its port.
var _ = act("bound-and-connected", func() error {
	u, free := udp(), udp()
	if err := unix.Bind(free, &unix.SockaddrInet4{}); err != nil {
		return failed("bind", err)
	}
	port, err := localName(free)
	unix.Close(free)
	if err = first(err, unix.Bind(u, &unix.SockaddrInet4{Port: int(port.Port())})); err != nil {
		return failed("bind to a port", err)
	}
	if err := connectTo(u, echoPort); err != nil {
		return failed("connect", err)
	}
	if _, err := unix.Write(u, []byte("one")); err != nil {
		return failed("write", err)
	}
	own, _ := localName(u)
	return first(receiveOne(u), expect("peer", peer(u), echoPort), expect("port", own.Port(), port.Port()))
})

func TestBoundDatagramSocketIsConnected(t *testing.T) { underShim(t, "bound-and-connected") }

// A socket that is replaced keeps its port to itself: with SO_REUSEADDR another user
// could take what is sent to the program.
var _ = act("port-of-its-own", func() error {
	u := udp()
	if err := unix.Bind(u, &unix.SockaddrInet4{}); err != nil {
		return failed("bind", err)
	}
	before, err := localName(u)
	if err != nil {
		return failed("getsockname", err)
	}
	if err := sendOne(u); err != nil {
		return err
	}
	after, _ := localName(u)
	address, _ := getInt(u, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	port, _ := getInt(u, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	err = first(expect("port", after.Port(), before.Port()),
		expect("SO_REUSEADDR", address, 0), expect("SO_REUSEPORT", port, 0))
	other, e := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if e != nil {
		return failed("socket", e)
	}
	ours, _ := netnsCookie(u)
	if theirs, _ := netnsCookie(other); ours != theirs {
		return err // the port is one of the hidden namespace
	}
	setInt(other, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	return first(err, expect("bind of another socket to the port", unix.Bind(other, &unix.SockaddrInet6{Port: int(before.Port())}), error(unix.EADDRINUSE)))
})

func TestReplacedDatagramSocketKeepsPortToItself(t *testing.T) { underShim(t, "port-of-its-own") }

// The broadcast address of a link is reached by IPv4, and who answers has another address.
var _ = act("broadcast", func() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr("10.7.0.1/24")
	if err != nil {
		return err
	}
	all := netip.MustParseAddrPort("10.7.0.255:7000")
	a.Broadcast = all.Addr().AsSlice()
	if err := netlink.AddrAdd(lo, a); err != nil {
		return failed("address", err)
	}
	server, client, b := udp(), udp(), make([]byte, 100)
	setInt(client, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	unix.SetsockoptTimeval(server, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	if err := first(failed("bind", unix.Bind(server, &unix.SockaddrInet4{Port: 7000})), failed("sendto", unix.Sendto(client, []byte("who"), 0, sockaddr(all)))); err != nil {
		return err
	}
	_, from, err := unix.Recvfrom(server, b, 0)
	if err != nil {
		return failed("the server's recvfrom", err)
	}
	if err := unix.Sendto(server, []byte("me"), 0, from); err != nil {
		return failed("the server's sendto", err)
	}
	n, from, err := unix.Recvfrom(client, b, 0)
	if err != nil {
		return failed("recvfrom", err)
	}
	return first(expect("data", string(b[:n]), "me"), expect("source", addrPort(from), netip.MustParseAddrPort("10.7.0.1:7000")))
})

func TestBroadcastToLink(t *testing.T) { underShim(t, "broadcast") }

// What a program sends as several datagrams by one call (UDP_SEGMENT) arrives so.
var _ = act("segments", func() error {
	u, b := udp(), make([]byte, 4000)
	control := appendControl(nil, unix.SOL_UDP, udpSegment, 2, 1000)
	n, err := unix.SendmsgN(u, make([]byte, 2500), control, sockaddr(echoPort), 0)
	if err := first(failed("sendmsg", err), expect("sendmsg", n, 2500)); err != nil {
		return err
	}
	out, data, _ := messages(1, echoPort)
	data[0] = make([]byte, 1500)
	h := &out[0].hdr
	h.Iov.Base, h.Control = &data[0][0], &control[0]
	h.Iov.SetLen(len(data[0]))
	h.SetControllen(len(control))
	if _, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(u), uintptr(unsafe.Pointer(h)), 1, 0, 0, 0); e != 0 {
		return failed("sendmmsg", e)
	}
	runtime.KeepAlive(data)
	for i, want := range []int{1000, 1000, 500, 1000, 500} {
		n, _, err := unix.Recvfrom(u, b, 0)
		if err := first(failed("recvfrom", err), expect(fmt.Sprintf("datagram %d", i), n, want)); err != nil {
			return err
		}
	}
	return nil
})

func TestSendSegments(t *testing.T) { underShim(t, "segments") }

// Any IPv6 host can send to a socket that takes the place of an IPv4 one. The program
// does not see that, and it must not hide what comes behind it.
var _ = act("peek", func() error {
	u := udp()
	b := make([]byte, 100)
	take := func(flags int, want string) error {
		n, from, err := unix.Recvfrom(u, b, flags)
		if err != nil {
			return failed("recvfrom", err)
		}
		return first(expect("data", string(b[:n]), want), expect("source", addrPort(from), echoPort))
	}
	if err := first(failed("sendto", unix.Sendto(u, []byte("one"), 0, sockaddr(echoPort))), take(0, "one")); err != nil {
		return err
	}
	at, err := localName(u)
	if err != nil {
		return failed("getsockname", err)
	}
	foreign, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return failed("socket", err)
	}
	unix.Sendto(foreign, []byte("foreign"), 0, sockaddr(netip.AddrPortFrom(netip.IPv6Loopback(), at.Port())))
	return first(failed("sendto", unix.Sendto(u, []byte("two"), 0, sockaddr(echoPort))), take(unix.MSG_PEEK, "two"), take(0, "two"))
})

func TestPeekPassesOverForeignDatagrams(t *testing.T) { underShim(t, "peek") }

var _ = act("mmsg", func() error {
	const many = 8
	u := udp()
	out, _, _ := messages(many, echoPort)
	n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(u), uintptr(unsafe.Pointer(&out[0])), many, 0, 0, 0)
	if e != 0 || n != many {
		return fmt.Errorf("sendmmsg: %d, %v", n, e)
	}
	seen := map[string]bool{}
	for len(seen) < many {
		in, data, names := messages(many, netip.AddrPort{})
		n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(u), uintptr(unsafe.Pointer(&in[0])), many, unix.MSG_WAITFORONE, 0, 0)
		if e != 0 || n == 0 {
			return fmt.Errorf("recvmmsg: %d, %v", n, e)
		}
		for i := range n {
			if a := rawAddrPort(&names[i]); a != echoPort {
				return fmt.Errorf("from %v", a)
			}
			seen[string(data[i][:in[i].n])] = true
		}
	}
	runtime.KeepAlive(out)
	return expect("a message", seen["message 7"], true)
})

func TestSendmmsgRecvmmsg(t *testing.T) { underShim(t, "mmsg") }

var _ = act("fast-open", func() error {
	s := tcp()
	n, err := unix.SendmsgN(s, []byte("hello"), nil, sockaddr(echoPort), msgFastOpen)
	if err != nil {
		return err
	}
	b := make([]byte, 10)
	got, err := unix.Read(s, b)
	return first(err, expect("sent", n, 5), expect("data", string(b[:got]), "hello"), expect("peer", peer(s), echoPort))
})

func TestFastOpen(t *testing.T) { underShim(t, "fast-open") }

var _ = act("ioctl", func() error {
	u := udp()
	r, err := unix.NewIfreq("lo")
	if err = first(err, unix.IoctlIfreq(u, unix.SIOCGIFINDEX, r)); err != nil {
		return err
	}
	waiting, err := unix.IoctlGetInt(u, unix.TIOCINQ)
	return first(err, expect("index", r.Uint32(), 1), expect("waiting", waiting, 0))
})

func TestIoctl(t *testing.T) { underShim(t, "ioctl") }

var _ = act("dup", func() error {
	s := tcp()
	two, err := unix.Dup(s)
	three, err2 := unix.FcntlInt(uintptr(s), unix.F_DUPFD_CLOEXEC, 50)
	if err = first(err, err2, dial(two)); err != nil {
		return err
	}
	flags, err := unix.FcntlInt(uintptr(three), unix.F_GETFD, 0)
	flags2, err2 := unix.FcntlInt(uintptr(two), unix.F_GETFD, 0)
	return first(err, err2, echo(s), echo(two), echo(three), expect("close-on-exec", flags, unix.FD_CLOEXEC), expect("close-on-exec of dup", flags2, 0))
})

func TestDup(t *testing.T) { underShim(t, "dup") }

// A signal may end the call between two of several descriptors. Then the
// restarted call goes on with the rest.
var _ = act("dup-interrupted", func() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid, end := unix.Gettid(), make(chan struct{})
	defer close(end)
	go func() {
		for {
			select {
			case <-end:
				return
			default:
				unix.Tgkill(unix.Getpid(), tid, unix.SIGURG) // Go's own, with SA_RESTART
			}
		}
	}()
	for i := range 50 {
		s := tcp()
		two, err := unix.Dup(s)
		three, err2 := unix.FcntlInt(uintptr(s), unix.F_DUPFD_CLOEXEC, 50)
		ep, err3 := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err := first(err, err2, err3, unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, three, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: 7})); err != nil {
			return err
		}
		if err := first(failed("connect", dial(two)), echo(s), echo(two), echo(three)); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
		got := make([]unix.EpollEvent, 2)
		n, err := unix.EpollWait(ep, got, 20000)
		for err == unix.EINTR {
			n, err = unix.EpollWait(ep, got, 20000)
		}
		if err := first(err, expect("events", n, 1), expect("data", got[0].Fd, 7)); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
		for _, fd := range []int{s, two, three, ep} {
			unix.Close(fd)
		}
	}
	return nil
})

func TestDupInterrupted(t *testing.T) { underShim(t, "dup-interrupted") }

// A flood of signals interrupts one call thousands of times. Each time the kernel
// restarts it, and the supervisor must not keep a thread for those that are over.
var _ = act("signal-flood", func() error {
	s := udp()
	if err := unix.Sendto(s, []byte("x"), 0, sockaddr(echoPort)); err != nil {
		return err
	}
	var b [100]byte
	if _, _, err := unix.Recvfrom(s, b[:], 0); err != nil {
		return failed("first answer", err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid, most := unix.Gettid(), make(chan int, 1)
	go func() {
		threads := 0
		for i := range 20000 {
			unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
			if i%100 == 0 {
				entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", unix.Getppid()))
				if err != nil {
					threads = 1 << 20
				}
				threads = max(threads, len(entries))
			}
		}
		most <- threads
		if err := unix.Sendto(s, []byte("y"), 0, sockaddr(echoPort)); err != nil {
			panic(err)
		}
	}()
	n, _, err := unix.Recvfrom(s, b[:], 0)
	// A signal at the wrong moment has the first datagram sent twice.
	for err == unix.EINTR || err == nil && string(b[:n]) == "x" {
		n, _, err = unix.Recvfrom(s, b[:], 0)
	}
	if err := first(failed("answer", err), expect("answer", string(b[:max(n, 0)]), "y")); err != nil {
		return err
	}
	if threads := <-most; threads > 100 {
		return fmt.Errorf("the supervisor had %d threads", threads)
	}
	return nil
})

func TestSignalFlood(t *testing.T) { underShim(t, "signal-flood") }

// What is replaced twice keeps all its descriptors: an IPv4 server first, then one
// beyond NAT64.
var _ = act("dup-twice", func() error {
	s := tcp()
	two, err := unix.Dup(s)
	if err != nil {
		return err
	}
	refused := connectTo(s, netip.MustParseAddrPort("127.0.0.1:1"))
	return first(expect("connect to this host", refused, error(unix.ECONNREFUSED)), failed("connect", dial(s)), echo(s), failed("duplicate", echo(two)), expect("peer", peer(two), echoPort))
})

func TestDupReplacedTwice(t *testing.T) { underShim(t, "dup-twice") }

var _ = act("epoll", func() error {
	s := open(unix.SOCK_STREAM | unix.SOCK_NONBLOCK)
	ep, err := unix.EpollCreate1(0)
	want := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLET, Fd: 0x11223344, Pad: 0x55667788}
	if err = first(err, unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, s, &want)); err != nil {
		return err
	}
	got := make([]unix.EpollEvent, 4)
	unix.EpollWait(ep, got, 0)
	if err := dial(s); err != nil && err != unix.EINPROGRESS {
		return err
	}
	n, err := unix.EpollWait(ep, got, 20000)
	return first(err, expect("events", n, 1), expect("data", [2]int32{got[0].Fd, got[0].Pad}, [2]int32{want.Fd, want.Pad}),
		unix.EpollCtl(ep, unix.EPOLL_CTL_DEL, s, nil))
})

func TestEpollCreate(t *testing.T) { underShim(t, "epoll") }

var _ = act("x32", func() error {
	const bit = 0x40000000
	if _, _, e := unix.RawSyscall(bit|unix.SYS_GETPID, 0, 0, 0); e != 0 {
		fmt.Println("no x32:", e)
		return nil
	}
	fd, _, e := unix.RawSyscall(bit|unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	if e != 0 {
		return failed("socket", e)
	}
	var to, from unix.RawSockaddrInet6
	size := rawName(&to, echoPort)
	if _, _, e := unix.RawSyscall(bit|unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&to)), uintptr(size)); e != 0 {
		return failed("connect", e)
	}
	size = uint32(unsafe.Sizeof(from))
	_, _, e = unix.RawSyscall(bit|unix.SYS_GETPEERNAME, fd, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
	return first(expect("getpeername", e, 0), expect("peer", rawAddrPort(&from), echoPort), echo(int(fd)))
})

// TestX32 needs a kernel that has been started with syscall.x32=y.
func TestX32(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("x32 is an ABI of x86-64")
	}
	out, err := inWorld(t, "all", "x32")
	if strings.Contains(out, "no x32:") {
		t.Skip("the kernel has no x32 ABI")
	}
	if err != nil {
		t.Errorf("%v, %s", err, out)
	}
}

var _ = act("unshare", func() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil // it may not
	}
	return first(expect("connect from a network without routes", dial(tcp()), error(unix.ENETUNREACH)),
		expect("send from there", unix.Sendto(udp(), []byte("x"), 0, sockaddr(echoPort)), error(unix.ENETUNREACH)))
})

func TestUnshare(t *testing.T) { underShim(t, "unshare") }

const landlockRuleNetPort = 2 // LANDLOCK_RULE_NET_PORT

// restrictTo applies a Landlock ruleset to the calling thread: which TCP ports it
// may connect to, or with files something that is not about ports.
func restrictTo(files bool, ports ...uint16) error {
	attr := struct{ fs, net uint64 }{net: unix.LANDLOCK_ACCESS_NET_CONNECT_TCP}
	if files {
		attr.fs, attr.net = unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK, 0
	}
	fd, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if e != 0 {
		return failed("landlock_create_ruleset", e)
	}
	for _, p := range ports {
		rule := struct{ access, port uint64 }{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(p)}
		if _, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, landlockRuleNetPort, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); e != 0 {
			return failed("landlock_add_rule", e)
		}
	}
	if _, _, e := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); e != 0 {
		return failed("landlock_restrict_self", e)
	}
	// It has taken effect: what is added now does not count.
	rule := struct{ access, port uint64 }{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, 9}
	unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, landlockRuleNetPort, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	return nil
}

// landlockDenies checks that nothing reaches port 9, in whatever way it connects.
func landlockDenies() error {
	nine := netip.AddrPortFrom(testServer, 9)
	quick, bound := open(unix.SOCK_STREAM|unix.SOCK_NONBLOCK), tcp()
	_, fastOpen := unix.SendmsgN(tcp(), []byte("x"), nil, sockaddr(nine), msgFastOpen)
	return first(expect("connect", connectTo(tcp(), nine), error(unix.EACCES)), expect("without waiting", connectTo(quick, nine), error(unix.EACCES)),
		expect("TCP Fast Open", fastOpen, error(unix.EACCES)),
		failed("bind", unix.Bind(bound, &unix.SockaddrInet4{})), expect("bound", connectTo(bound, nine), error(unix.EACCES)))
}

var _ = act("landlock", func() error {
	runtime.LockOSThread()
	if version, _, _ := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); version < 4 || version > 1000 {
		fmt.Println("no Landlock for TCP")
		return nil
	}
	if err := first(restrictTo(true), failed("connect without rules for ports", dial(tcp()))); err != nil {
		return err
	}
	if err := restrictTo(false, 7, 8); err != nil {
		return err
	}
	s, timed, quick := tcp(), tcp(), open(unix.SOCK_STREAM|unix.SOCK_NONBLOCK)
	unix.SetsockoptTimeval(timed, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 20})
	err := dial(quick)
	if err == unix.EINPROGRESS {
		err = nil
	}
	fastOpen := tcp()
	_, fastOpenErr := unix.SendmsgN(fastOpen, []byte("x"), nil, sockaddr(echoPort), msgFastOpen)
	u := udp()
	err = first(failed("without waiting", err), failed("connect", dial(s)), echo(s), failed("with a timeout", dial(timed)), echo(timed),
		failed("TCP Fast Open", fastOpenErr), expect("refused", connectTo(tcp(), netip.AddrPortFrom(testServer, 8)), error(unix.ECONNREFUSED)),
		failed("UDP", unix.Sendto(u, []byte("x"), 0, sockaddr(echoPort))), landlockDenies())
	if err != nil {
		return err
	}
	child := osexec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), actVar+"=landlock-child")
	if out, err := child.CombinedOutput(); err != nil {
		return fmt.Errorf("child: %w: %s", err, out)
	}
	if err := restrictTo(false, 8, 9); err != nil {
		return err
	}
	return first(expect("connect after a second ruleset", dial(tcp()), error(unix.EACCES)), failed("second ruleset", landlockDenies()))
})

var _ = act("landlock-child", func() error {
	s := tcp()
	// What it does to its own mark gives it no right.
	own, err := markOf(0)
	if err := first(err, failed("connect", dial(s)), echo(s), landlockDenies()); err != nil {
		return err
	}
	if err := mark(0, own-1); err != nil {
		return failed("mark", err)
	}
	return first(failed("after a change of the mark", landlockDenies()), expect("connect with an unknown mark", dial(tcp()), error(unix.EACCES)))
})

// TestLandlock needs Linux 6.7.
func TestLandlock(t *testing.T) {
	out, err := inWorld(t, "all", "landlock")
	if strings.Contains(out, "no Landlock for TCP") {
		t.Skip("the kernel has no Landlock rules for TCP")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	underShim(t, "landlock")
}

// A supervisor without descriptors makes calls fail, and works again afterwards.
var _ = act("exhausted", func() error {
	connected, fresh := tcp(), tcp()
	if err := failed("connect", dial(connected)); err != nil {
		return err
	}
	var before unix.Rlimit
	err := unix.Prlimit(unix.Getppid(), unix.RLIMIT_NOFILE, nil, &before)
	if err = first(err, unix.Prlimit(unix.Getppid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: before.Max}, nil)); err != nil {
		return failed("prlimit", err)
	}
	made, socket := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	connect := dial(fresh)
	_, name := unix.Getpeername(connected)
	sent, data := unix.Write(connected, []byte("x"))
	if err := unix.Prlimit(unix.Getppid(), unix.RLIMIT_NOFILE, &before, nil); err != nil {
		return failed("prlimit", err)
	}
	if socket == nil { // before Linux 5.14 it is the kernel's
		socket = failed("connect of a socket made meanwhile", dial(made))
	} else if socket == unix.ENOBUFS {
		socket = nil
	}
	return first(failed("socket", socket), expect("connect", connect, error(unix.ENOBUFS)), expect("getpeername", name, error(unix.ENOBUFS)), expect("sent", sent, 1), data,
		failed("connect afterwards", dial(fresh)), failed("echo", echo(fresh)), expect("peer", peer(connected), echoPort))
})

func TestExhaustedSupervisor(t *testing.T) { underShim(t, "exhausted") }

var _ = act("addresses", func() error {
	// As glibc's getaddrinfo asks, for AI_ADDRCONFIG.
	request := make([]byte, sizeofAddressRequest)
	request[0], request[4], request[6], request[7] = sizeofAddressRequest, unix.RTM_GETADDR, unix.NLM_F_REQUEST, unix.NLM_F_DUMP>>8
	ask := func(fd int) (string, error) {
		if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return "", err
		}
		b := make([]byte, 65536)
		n, _, _, from, err := unix.Recvmsg(fd, b, nil, 0)
		if sa, ok := from.(*unix.SockaddrNetlink); err == nil && (!ok || sa.Pid != 0) {
			err = fmt.Errorf("an answer from %v", from) // the kernel is 0
		}
		return string(b[:n]), err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err = first(err, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})); err != nil {
		return err
	}
	got, err := ask(fd)
	if err != nil {
		return err
	}
	placeholder := hiddenIPv4.As4()
	fmt.Println("placeholder:", strings.Contains(got, string(placeholder[:])))
	return nil
})

func TestAddressesForGetaddrinfo(t *testing.T) {
	for _, world := range []string{"all", "namespaces"} {
		if out, err := inWorld(t, world, "addresses"); err != nil || !strings.Contains(out, "placeholder: true") {
			t.Errorf("%s: %v, %s", world, err, out)
		}
	}
}

func TestOldKernelIsReported(t *testing.T) {
	out, err := inWorld(t, "addfd-send", "socket")
	if err != nil || !strings.Contains(out, "said: the kernel cannot answer with a descriptor (SECCOMP_ADDFD_FLAG_SEND, Linux 5.14)") {
		t.Errorf("%v, %s", err, out)
	}
}

func TestYamaRefuses(t *testing.T) {
	for _, c := range []struct {
		scope string
		uid   int
		want  bool
	}{{"", 65534, false}, {"0\n", 65534, false}, {"1\n", 65534, false}, {"2\n", 65534, true}, {"2\n", 0, false}, {"3\n", 65534, true}, {"3\n", 0, true}} {
		if err := yamaRefuses([]byte(c.scope), c.uid); (err != nil) != c.want {
			t.Errorf("ptrace_scope %q, uid %d: %v", c.scope, c.uid, err)
		}
	}
}

var _ = act("kill-supervisor", func() error { return unix.Kill(unix.Getppid(), unix.SIGKILL) })

// How a supervisor has ended that says nothing any more is told.
func TestSupervisorKilled(t *testing.T) {
	out, err := inWorld(t, "all", "kill-supervisor")
	if want := "the supervisor has ended: the other end has closed (signal: killed)"; err == nil || !strings.Contains(out, want) {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
}
