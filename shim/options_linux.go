package shim

import (
	"sync"

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
	soTxRehash      = 74
	ipTTL           = 2
	tcpTxDelay      = 37
	udpSegment      = 103
	udpGRO          = 104
	tcpNotSentLowat = 25
)

// intOptions are carried over from an AF_INET socket to the AF_INET6 socket in
// its place where they differ from a fresh socket's.
var intOptions = map[int][]option{
	unix.SOCK_STREAM: append([]option{
		same(unix.SOL_TCP, unix.TCP_NODELAY), same(unix.SOL_TCP, unix.TCP_MAXSEG), same(unix.SOL_TCP, unix.TCP_CORK),
		same(unix.SOL_TCP, unix.TCP_KEEPIDLE), same(unix.SOL_TCP, unix.TCP_KEEPINTVL), same(unix.SOL_TCP, unix.TCP_KEEPCNT),
		same(unix.SOL_TCP, unix.TCP_SYNCNT), same(unix.SOL_TCP, unix.TCP_LINGER2), same(unix.SOL_TCP, unix.TCP_WINDOW_CLAMP),
		same(unix.SOL_TCP, unix.TCP_QUICKACK), same(unix.SOL_TCP, unix.TCP_USER_TIMEOUT), same(unix.SOL_TCP, tcpNotSentLowat),
		same(unix.SOL_TCP, unix.TCP_FASTOPEN_CONNECT), same(unix.SOL_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS),
		same(unix.SOL_TCP, tcpTxDelay),
	}, anyOptions...),
	unix.SOCK_DGRAM: append([]option{
		same(unix.SOL_UDP, udpSegment), same(unix.SOL_UDP, udpGRO), same(unix.SOL_UDP, unix.UDP_CORK),
	}, anyOptions...),
}

var anyOptions = []option{
	same(unix.SOL_SOCKET, unix.SO_REUSEADDR), same(unix.SOL_SOCKET, unix.SO_REUSEPORT),
	same(unix.SOL_SOCKET, unix.SO_KEEPALIVE), same(unix.SOL_SOCKET, unix.SO_OOBINLINE),
	same(unix.SOL_SOCKET, unix.SO_BROADCAST), same(unix.SOL_SOCKET, unix.SO_DONTROUTE),
	same(unix.SOL_SOCKET, unix.SO_PRIORITY), same(unix.SOL_SOCKET, unix.SO_MARK), same(unix.SOL_SOCKET, unix.SO_RCVLOWAT),
	same(unix.SOL_SOCKET, unix.SO_TIMESTAMP), same(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS), same(unix.SOL_SOCKET, unix.SO_TIMESTAMPING),
	same(unix.SOL_SOCKET, unix.SO_BUSY_POLL), same(unix.SOL_SOCKET, unix.SO_ZEROCOPY), same(unix.SOL_SOCKET, soTxRehash),
	same(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX), same(unix.SOL_SOCKET, unix.SO_NO_CHECK), same(unix.SOL_SOCKET, unix.SO_RXQ_OVFL),
	{unix.SOL_SOCKET, unix.SO_SNDBUF, unix.SOL_SOCKET, unix.SO_SNDBUF, true},
	{unix.SOL_SOCKET, unix.SO_RCVBUF, unix.SOL_SOCKET, unix.SO_RCVBUF, true},
	{unix.SOL_IP, unix.IP_TOS, unix.SOL_IPV6, unix.IPV6_TCLASS, false},
	{unix.SOL_IP, unix.IP_TTL, unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS, false},
	{unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, false},
	{unix.SOL_IP, unix.IP_RECVERR, unix.SOL_IPV6, unix.IPV6_RECVERR, false},
	same(unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT), same(unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE),
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

// defaults are the values of a fresh AF_INET socket, by type.
var defaults = sync.OnceValue(func() map[int]map[option]int {
	all := map[int]map[option]int{}
	for typ, options := range intOptions {
		s, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			continue
		}
		all[typ] = map[option]int{}
		for _, o := range options {
			if v, err := unix.GetsockoptInt(s, o.level, o.opt); err == nil {
				all[typ][o] = v
			}
		}
		unix.Close(s)
	}
	return all
})

// copyOptions carries over what the program has set on an AF_INET socket. What
// the AF_INET6 socket refuses is left out.
func copyOptions(from, to, typ int) {
	fresh := defaults()[typ]
	for _, o := range intOptions[typ] {
		was, known := fresh[o]
		if !known {
			continue
		}
		v, err := unix.GetsockoptInt(from, o.level, o.opt)
		if err != nil || v == was {
			continue
		}
		if o.halve {
			v /= 2
		}
		unix.SetsockoptInt(to, o.toLevel, o.toOpt, v)
	}
	for _, opt := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if v, err := unix.GetsockoptTimeval(from, unix.SOL_SOCKET, opt); err == nil && (v.Sec != 0 || v.Usec != 0) {
			unix.SetsockoptTimeval(to, unix.SOL_SOCKET, opt, v)
		}
	}
	if l, err := getLinger(from); err == nil && l.Onoff != 0 {
		unix.SetsockoptLinger(to, unix.SOL_SOCKET, unix.SO_LINGER, l)
	}
	if typ == unix.SOCK_STREAM {
		if c, err := unix.GetsockoptString(from, unix.SOL_TCP, unix.TCP_CONGESTION); err == nil {
			if d, err := unix.GetsockoptString(to, unix.SOL_TCP, unix.TCP_CONGESTION); err == nil && c != d {
				unix.SetsockoptString(to, unix.SOL_TCP, unix.TCP_CONGESTION, c)
			}
		}
	}
}
