package lab

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// echoUDP answers datagrams with themselves. DF stays clear, as the answer to
// a question that was fragmented will be too.
func echoUDP(conn *net.UDPConn) {
	setSocketOption(conn, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
	echo(conn)
}

// echoWithoutChecksum is echoUDP with answers whose UDP checksum is 0, as RFC
// 768 allows over IPv4.
func echoWithoutChecksum(conn *net.UDPConn) {
	setSocketOption(conn, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)
	echoUDP(conn)
}

// echoESP answers IP packets of protocol 50 with their own payload.
func echoESP(conn net.PacketConn) { echo(conn) }

func echo(conn net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		conn.WriteTo(buf[:n], from)
	}
}

// setSocketOption sets an integer option; the options used here cannot fail on
// the sockets they are used on.
func setSocketOption(conn *net.UDPConn, level, option, value int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), level, option, value) })
}
