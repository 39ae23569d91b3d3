package shim

import (
	"bytes"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// option is a socket option with an int value, and its counterpart on the
// socket that takes over.
type option struct {
	level, opt     int
	toLevel, toOpt int
	halve          bool // the kernel doubles what it is told
}

func same(level, opt int) option { return option{level, opt, level, opt, false} }

const (
	udpSegment = 103
	udpGRO     = 104
)

// intOptions are carried over from an AF_INET socket to the socket in its
// place, where they differ from a fresh socket's.
var intOptions = map[int][]option{
	unix.SOCK_STREAM: append([]option{
		same(unix.SOL_TCP, unix.TCP_NODELAY), same(unix.SOL_TCP, unix.TCP_MAXSEG), same(unix.SOL_TCP, unix.TCP_CORK),
		same(unix.SOL_TCP, unix.TCP_KEEPIDLE), same(unix.SOL_TCP, unix.TCP_KEEPINTVL), same(unix.SOL_TCP, unix.TCP_KEEPCNT),
		same(unix.SOL_TCP, unix.TCP_SYNCNT), same(unix.SOL_TCP, unix.TCP_LINGER2), same(unix.SOL_TCP, unix.TCP_WINDOW_CLAMP),
		same(unix.SOL_TCP, unix.TCP_USER_TIMEOUT), same(unix.SOL_TCP, unix.TCP_NOTSENT_LOWAT),
		same(unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT),
		same(unix.SOL_SOCKET, unix.SO_KEEPALIVE), same(unix.SOL_SOCKET, unix.SO_OOBINLINE),
		same(unix.SOL_SOCKET, unix.SO_RCVLOWAT), same(unix.SOL_SOCKET, unix.SO_ZEROCOPY),
		same(unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT), same(unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE),
	}, anyOptions...),
	unix.SOCK_DGRAM: append([]option{
		same(unix.SOL_UDP, udpSegment), same(unix.SOL_UDP, udpGRO), same(unix.SOL_UDP, unix.UDP_CORK),
		same(unix.SOL_SOCKET, unix.SO_BROADCAST), same(unix.SOL_SOCKET, unix.SO_NO_CHECK), same(unix.SOL_SOCKET, unix.SO_RXQ_OVFL),
		same(unix.SOL_SOCKET, unix.SO_TIMESTAMP), same(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS),
	}, anyOptions...),
}

var anyOptions = []option{
	same(unix.SOL_SOCKET, unix.SO_REUSEADDR), same(unix.SOL_SOCKET, unix.SO_REUSEPORT),
	same(unix.SOL_SOCKET, unix.SO_PRIORITY), same(unix.SOL_SOCKET, unix.SO_MARK),
	same(unix.SOL_SOCKET, unix.SO_TIMESTAMPING), same(unix.SOL_SOCKET, unix.SO_BUSY_POLL),
	same(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX),
	{unix.SOL_SOCKET, unix.SO_SNDBUF, unix.SOL_SOCKET, unix.SO_SNDBUF, true},
	{unix.SOL_SOCKET, unix.SO_RCVBUF, unix.SOL_SOCKET, unix.SO_RCVBUF, true},
	{unix.SOL_IP, unix.IP_TOS, unix.SOL_IPV6, unix.IPV6_TCLASS, false},
	{unix.SOL_IP, unix.IP_TTL, unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS, false},
	{unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, false},
	{unix.SOL_IP, unix.IP_RECVERR, unix.SOL_IPV6, unix.IPV6_RECVERR, false},
}

// counterpart returns the IPv6 option for one of SOL_IP, when a program sets
// it on a socket that has been replaced.
func counterpart(opt int) (toOpt int, ok bool) {
	for _, o := range anyOptions {
		if o.level == unix.SOL_IP && o.opt == opt && o.toLevel == unix.SOL_IPV6 {
			return o.toOpt, true
		}
	}
	return 0, false
}

// settings are the values of a fresh AF_INET socket, in the order of intOptions.
type settings struct {
	ints       []int // missing: the kernel does not know the option
	known      []bool
	congestion string
}

var defaults = sync.OnceValue(func() map[int]settings {
	all := map[int]settings{}
	for typ, options := range intOptions {
		s, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var d settings
		for _, o := range options {
			v, err := getInt(s, o.level, o.opt)
			d.ints, d.known = append(d.ints, v), append(d.known, err == nil)
		}
		if typ == unix.SOCK_STREAM {
			d.congestion = congestion(s)
		}
		unix.Close(s)
		all[typ] = d
	}
	return all
})

// congestion returns TCP_CONGESTION.
func congestion(fd int) string {
	var b [16]byte
	n, err := rawGetsockopt(fd, unix.SOL_TCP, unix.TCP_CONGESTION, unsafe.Pointer(&b), uint32(len(b)))
	if err != nil {
		return ""
	}
	return string(bytes.TrimRight(b[:n], "\x00"))
}

// copyOptions carries over what the program has set on an AF_INET socket; to is
// an AF_INET6 socket, or with same an AF_INET socket. What it refuses is left
// out.
func copyOptions(from, to, typ int, same bool) {
	fresh := defaults()[typ]
	for i, o := range intOptions[typ] {
		if i >= len(fresh.known) || !fresh.known[i] {
			continue
		}
		v, err := getInt(from, o.level, o.opt)
		if err != nil || v == fresh.ints[i] {
			continue
		}
		if o.halve {
			v /= 2
		}
		if same {
			setInt(to, o.level, o.opt, v)
		} else {
			setInt(to, o.toLevel, o.toOpt, v)
		}
	}
	for _, opt := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		var v unix.Timeval
		if _, err := rawGetsockopt(from, unix.SOL_SOCKET, opt, unsafe.Pointer(&v), uint32(unsafe.Sizeof(v))); err == nil && (v.Sec != 0 || v.Usec != 0) {
			setRaw(to, unix.SOL_SOCKET, opt, unsafe.Pointer(&v), unsafe.Sizeof(v))
		}
	}
	var l unix.Linger
	if _, err := rawGetsockopt(from, unix.SOL_SOCKET, unix.SO_LINGER, unsafe.Pointer(&l), uint32(unsafe.Sizeof(l))); err == nil && l.Onoff != 0 {
		setRaw(to, unix.SOL_SOCKET, unix.SO_LINGER, unsafe.Pointer(&l), unsafe.Sizeof(l))
	}
	if typ == unix.SOCK_STREAM {
		if c := congestion(from); c != fresh.congestion && c != "" {
			unix.SetsockoptString(to, unix.SOL_TCP, unix.TCP_CONGESTION, c)
		}
	}
}
